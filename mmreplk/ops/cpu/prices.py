"""Prices of work, in milliseconds a unit, by kind of processor: ``tools/dev/measure_cpu_thresholds.py`` prints them.

Measured in PyTorch 2.13 on one core of an AMD EPYC, of the Zen 5 generation (AVX512) and of Zen 3 (AVX2). Those of AMX,
Intel's processors since Sapphire Rapids, are derived: no more than eight shapes were measured there.
"""

Prices = dict[str, tuple[float, ...]]

_AVX512: Prices = {
    'cast':
        (1.6e-7, 7.4e-8),
    'convolve direct channels_last bfloat16':
        (1.3e-6, 6.9e-5, 4.7e-7, 1.6e-7, 1.6e-7, 5.7e-10, 3.2e-7),
    'convolve direct channels_last float32':
        (1.1e-6, 6.4e-5, 4.1e-7, 1.4e-7, 5.4e-8, 5.1e-10, 3.9e-7),
    'convolve direct contiguous bfloat16':
        (1e-6, 0.0001, 2.7e-7, 1.5e-7, 1.5e-7, 3.1e-10, 4.8e-8),
    'convolve direct contiguous float32':
        (8.6e-7, 8.4e-5, 2.6e-7, 1.4e-7, 5.9e-8, 3.5e-10, 2.3e-7),
    'convolve forward channels_last bfloat16':
        (3.4e-6, 3.9e-8, 1.1e-7, 1.1e-8, 2.4e-8, 4.3e-7, 2.5e-11, 2.5e-10, 5.7e-11, 3.8e-9, 2.1e-10, 3.6e-9, 1.1e-9,
         5.5e-11),
    'convolve forward channels_last float32':
        (3e-6, 1.1e-7, 1.9e-7, 1.3e-8, 3.7e-8, 5.4e-7, 1.9e-11, 3.2e-9, 6.9e-10, 1.1e-8, 2e-10, 4.2e-9, 2.3e-10,
         6.9e-11),
    'convolve forward contiguous bfloat16':
        (4.5e-6, 6.1e-7, 1.3e-7, 1.3e-8, 5.6e-9, 4.4e-7, 8.5e-10, 3e-11, 7.2e-11, 0, 8.3e-10, 2.5e-11, 0, 2.5e-10),
    'convolve forward contiguous float32':
        (4.2e-6, 4.3e-7, 5.7e-7, 1.2e-8, 8.1e-10, 1.8e-7, 1e-10, 3.3e-9, 2.8e-10, 0, 2e-10, 9.1e-12, 0, 4.8e-10),
    'convolve fourier contiguous float32':
        (3.4e-6, 4.2e-6, 1.6e-6, 1.6e-8),
    'convolve transposed channels_last bfloat16':
        (3.8e-6, 5.1e-8, 2.9e-7, 5.3e-9, 8.4e-9, 7.2e-7, 1.2e-8, 2.2e-10, 4.8e-10, 4.8e-9, 8.5e-9, 3.2e-8, 2.9e-8,
         2.1e-8),
    'convolve transposed channels_last float32':
        (3.4e-6, 1.4e-7, 3.9e-7, 5.9e-9, 1.2e-8, 4.1e-7, 2.5e-10, 3.5e-9, 9.6e-10, 1.8e-8, 7.4e-9, 5.2e-8, 5.2e-8,
         3.8e-8),
    'convolve transposed contiguous bfloat16':
        (5e-6, 6.1e-7, 1.6e-7, 4.8e-9, 3.1e-9, 6.2e-7, 1.5e-8, 1.3e-10, 1.1e-10, 0, 8.8e-9, 1.9e-8, 2.7e-8, 2.4e-8),
    'convolve transposed contiguous float32':
        (4.6e-6, 4.3e-7, 7e-7, 5.8e-9, 1.6e-9, 1.9e-7, 2.3e-9, 1.9e-9, 1.1e-10, 0, 8.2e-9, 3.5e-8, 5.1e-8, 2.3e-8),
    'grad_weight direct channels_last bfloat16':
        (1.7e-6, 3.6e-5, 1.1e-6, 1.3e-7, 1.5e-7, 2e-7, 3.4e-8),
    'grad_weight direct channels_last float32':
        (1.5e-6, 4.5e-5, 6.7e-7, 1.2e-7, 8.8e-8, 2.8e-7, 3.1e-7),
    'grad_weight direct contiguous bfloat16':
        (1.2e-6, 5.3e-5, 9.9e-7, 1.2e-7, 1.5e-7, 2.3e-7, 7.2e-8),
    'grad_weight direct contiguous float32':
        (1.1e-6, 6.3e-5, 5.5e-7, 1.2e-7, 9e-8, 3.6e-7, 3.4e-7),
    'grad_weight fourier contiguous float32':
        (3.7e-6, 4.4e-6, 2.3e-6, 2.7e-8),
    'grad_weight pytorch channels_last bfloat16':
        (4e-6, 7.6e-8, 1.1e-8, 1.9e-7, 1.1e-6, 3.2e-7, 1.6e-9),
    'grad_weight pytorch channels_last float32':
        (3.7e-6, 2.2e-7, 9.7e-9, 1.4e-7, 4.8e-6, 4.9e-7, 4.7e-10),
    'grad_weight pytorch contiguous bfloat16':
        (4.5e-6, 6.8e-7, 1.2e-8, 6e-7, 1.2e-8),
    'grad_weight pytorch contiguous float32':
        (4.5e-6, 4.7e-7, 1.1e-8, 5.6e-7, 2.3e-8),
    'grad_weight transposed contiguous float32':
        (5.7e-6, 8e-7, 2.3e-7, 9.2e-8, 6.8e-8, 3.1e-9, 1.2e-8),
    'narrow grad_weight direct channels_last bfloat16':
        (1.7e-6, 2.4e-5, 3.3e-7, 1.2e-7, 1.4e-7, 1.2e-6, 1.5e-7),
    'narrow grad_weight direct channels_last float32':
        (1.5e-6, 2.5e-5, 3e-7, 1.2e-7, 1.5e-7, 1.2e-6, 2.4e-7),
    'narrow grad_weight direct contiguous bfloat16':
        (1.2e-6, 4.7e-5, 1.4e-7, 1.1e-7, 1.9e-7, 1.2e-6, 1.6e-7),
    'narrow grad_weight direct contiguous float32':
        (1.1e-6, 4.4e-5, 1.8e-7, 1.2e-7, 1.2e-7, 1.2e-6, 2.8e-7),
    'im2col bfloat16':
        (0.0003, 3e-7),
    'im2col float32':
        (0.0003, 4.7e-7),
    'lay out bfloat16':
        (2.6e-7, 2.8e-7, 8.8e-7, 3.3e-7, 2e-7),
    'lay out float32':
        (2.4e-7, 2.8e-7, 8.5e-7, 4e-7, 3.4e-7),
    'dilated convolve direct channels_last bfloat16':
        (1.3e-6, 0.00016, 4.2e-7, 1.7e-7, 6.7e-9, 1.7e-7, 3e-8),
    'dilated convolve direct channels_last float32':
        (1e-6, 0.00012, 3.9e-7, 1.4e-7, 8.6e-8, 1.1e-7, 2e-7),
    'dilated convolve direct contiguous bfloat16':
        (1e-6, 0.0002, 2.3e-7, 1.8e-7, 1.4e-8, 1.1e-8, 4.8e-8),
    'dilated convolve direct contiguous float32':
        (8.5e-7, 0.00014, 2.6e-7, 1.4e-7, 8.3e-8, 3.3e-8, 7.2e-8),
    'dilated convolve forward channels_last bfloat16':
        (3.7e-6, 4.4e-8, 3.6e-8, 1.4e-8, 5.5e-10, 2.2e-7, 1.1e-5),
    'dilated convolve forward channels_last float32':
        (3.4e-6, 1.4e-7, 2.3e-7, 1.2e-8, 4.8e-10, 1.2e-7, 3.9e-5),
    'dilated convolve forward contiguous bfloat16':
        (4.8e-6, 5.8e-7, 1.8e-7, 1.3e-8, 1.5e-9, 2.4e-7, 1.2e-5),
    'dilated convolve forward contiguous float32':
        (4.6e-6, 4.3e-7, 6e-7, 8.8e-10, 1.2e-8, 3.3e-7, 3.1e-6),
    'dilated convolve transposed channels_last bfloat16':
        (2.1e-6, 5.4e-7, 9.4e-7, 2.6e-7, 3.1e-9, 2.1e-7, 1.6e-5),
    'dilated convolve transposed channels_last float32':
        (2.1e-6, 1.2e-6, 1.1e-6, 1.7e-7, 1.5e-9, 1.1e-7, 3e-5),
    'dilated convolve transposed contiguous bfloat16':
        (4.5e-6, 2.6e-6, 1e-8, 5.3e-7, 4.5e-9, 4.1e-7, 4.8e-8),
    'dilated convolve transposed contiguous float32':
        (3.1e-6, 2.8e-6, 3.2e-7, 5.2e-7, 3.7e-9, 4.2e-7, 3.1e-8),
    'dilated grad_weight pytorch channels_last float32':
        (2.7e-6, 1.2e-8, 2e-5, 1e-6, 4.3e-7, 3.3e-10),
    'dilated grad_weight pytorch contiguous bfloat16':
        (3.2e-6, 1.1e-6, 2.8e-8, 5.2e-7),
    'dilated grad_weight pytorch contiguous float32':
        (4.8e-6, 7.2e-7, 6.7e-8, 5e-7),
}

_AVX2: Prices = {
    'cast':
        (5.9e-7, 3.1e-7),
    'convolve direct channels_last bfloat16':
        (4.3e-6, 0.00015, 3.2e-6, 3.1e-7, 1.9e-7, 2e-9, 2.4e-7),
    'convolve direct channels_last float32':
        (2.3e-6, 0.00017, 4e-6, 3e-7, 1.5e-7, 2.7e-9, 1.4e-6),
    'convolve direct contiguous bfloat16':
        (5.8e-6, 0.00035, 1.8e-6, 2.9e-7, 3e-7, 1.9e-9, 7.7e-9),
    'convolve direct contiguous float32':
        (3.3e-6, 0.00032, 1.9e-6, 2.8e-7, 2.3e-7, 2.1e-9, 9.3e-8),
    'convolve forward channels_last float32':
        (1.5e-5, 5.2e-7, 2.3e-7, 4.3e-8, 1.6e-7, 2.6e-6, 4.4e-11, 1.2e-10, 4.1e-10, 6.9e-8, 4.2e-8, 2.7e-9, 3.6e-9,
         6.4e-9),
    'convolve forward contiguous float32':
        (1.8e-5, 1.6e-6, 1.2e-6, 4e-8, 3.1e-7, 3.3e-6, 8.7e-11, 9.6e-11, 8.9e-10, 0, 2.9e-9, 6.6e-10, 0, 6.6e-10),
    'convolve fourier contiguous float32':
        (2.4e-5, 1.4e-5, 5.5e-6, 1.5e-7),
    'convolve transposed channels_last float32':
        (1.8e-5, 6.5e-7, 6.5e-7, 2.5e-8, 7.3e-8, 1.5e-6, 7.2e-11, 1.8e-10, 4.3e-10, 7.8e-8, 3.8e-8, 1.5e-7, 1.2e-7,
         1.8e-7),
    'convolve transposed contiguous float32':
        (2.4e-5, 1.9e-6, 1.2e-6, 2.1e-8, 2.6e-7, 8.7e-7, 1.1e-10, 1e-10, 2.4e-9, 0, 3.2e-8, 1.4e-7, 1.1e-7, 1.6e-7),
    'grad_weight direct channels_last bfloat16':
        (7e-6, 7.4e-5, 4.5e-6, 2.2e-7, 7.7e-7, 1.9e-6, 3.4e-6),
    'grad_weight direct channels_last float32':
        (4.7e-6, 1.6e-6, 5.5e-6, 2.2e-7, 7.5e-7, 2.3e-6, 1.4e-6),
    'grad_weight direct contiguous bfloat16':
        (7.1e-6, 0.0003, 2.4e-6, 2.2e-7, 5.6e-7, 1.6e-6, 6.6e-7),
    'grad_weight direct contiguous float32':
        (4.3e-6, 0.00016, 3.5e-6, 2.2e-7, 6.4e-7, 2e-6, 8.7e-8),
    'grad_weight fourier contiguous float32':
        (3.1e-5, 1.5e-5, 7.8e-6, 4.6e-8),
    'grad_weight pytorch channels_last float32':
        (1.5e-5, 1.9e-6, 1.9e-8, 6e-7, 2.1e-5, 3.7e-7, 2.5e-10),
    'grad_weight pytorch contiguous float32':
        (2.2e-5, 2.6e-6, 2.1e-8, 1.8e-6, 8.9e-6),
    'grad_weight transposed contiguous float32':
        (2.9e-5, 9.5e-7, 3.8e-6, 2e-7, 1.5e-7, 7.4e-8, 6.8e-7),
    'narrow grad_weight direct channels_last bfloat16':
        (6.8e-6, 2.8e-5, 2e-6, 2.4e-7, 2.2e-7, 1.1e-5, 1.6e-6),
    'narrow grad_weight direct channels_last float32':
        (4.4e-6, 1.9e-5, 2.5e-6, 2.6e-7, 1e-7, 1.2e-5, 1.9e-6),
    'narrow grad_weight direct contiguous bfloat16':
        (5.7e-6, 0.00029, 7.9e-7, 2.3e-7, 3.1e-7, 1e-5, 2.9e-8),
    'narrow grad_weight direct contiguous float32':
        (4.3e-6, 0.00022, 1.1e-6, 2.2e-7, 2.8e-7, 9.5e-6, 3e-7),
    'im2col float32':
        (0.0021, 1.7e-6),
    'lay out bfloat16':
        (1e-6, 8.8e-7, 2.7e-6, 1.8e-6, 4.3e-7),
    'lay out float32':
        (9.1e-7, 1.6e-6, 3.1e-6, 2.1e-6, 9.2e-7),
    'dilated convolve direct channels_last bfloat16':
        (5.1e-6, 0.00024, 2.9e-6, 2.5e-7, 9.5e-9, 1.2e-6, 7.1e-7),
    'dilated convolve direct channels_last float32':
        (3.2e-6, 0.00026, 2.4e-6, 2e-7, 1.6e-7, 3.8e-6, 1e-6),
    'dilated convolve direct contiguous bfloat16':
        (5.1e-6, 0.00042, 6.8e-7, 1e-7, 1.2e-8, 4e-6, 1.7e-8),
    'dilated convolve direct contiguous float32':
        (4.1e-6, 0.00037, 1.2e-6, 8.4e-8, 1.3e-8, 3.5e-6, 1.1e-8),
    'dilated convolve forward channels_last float32':
        (1.7e-5, 4e-7, 4.4e-7, 1.2e-7, 3.7e-9, 1.5e-6, 0.00019),
    'dilated convolve forward contiguous float32':
        (2.5e-5, 1.4e-6, 2.5e-7, 5.2e-8, 6.9e-8, 1.5e-6, 2.1e-5),
    'dilated convolve transposed channels_last float32':
        (1.1e-5, 1.2e-8, 2.5e-8, 1.3e-6, 2.2e-8, 3.5e-6, 1.1e-7),
    'dilated convolve transposed contiguous float32':
        (3.2e-5, 6.8e-6, 2.4e-8, 1.9e-6, 2.1e-8, 1.5e-6, 1.6e-5),
    'dilated grad_weight pytorch channels_last float32':
        (2.2e-5, 4.9e-9, 0.00012, 8.2e-6, 2e-8, 2.2e-9),
    'dilated grad_weight pytorch contiguous float32':
        (3.6e-5, 8.9e-7, 3.4e-5, 1.7e-6),
}


def _of_amx(name: str, prices: tuple[float, ...]) -> tuple[float, ...]:
    """Scales by what was measured: in bfloat16, oneDNN's depthwise kernels are slower there than in float32.

    Of our own, those that multiply pairs of bfloat16: by half as many in a cycle.
    """
    if ' direct ' in name:
        in_pairs = name.endswith('16') and not name.startswith('narrow')
        return (*prices[:3], *(2 * price for price in prices[3:5]), *prices[5:]) if in_pairs else prices
    if name.endswith(' bfloat16') and name.startswith('convolve'):
        slowdown = 2.4 if 'transposed' in name else 1.45
        return tuple(slowdown * price for price in _AVX512[name.replace('bfloat16', 'float32')])
    return tuple(1.35 * price for price in prices) if 'fourier' in name else prices


PRICES: dict[str, Prices] = {
    'AVX512': _AVX512,
    'AVX2': _AVX2,
    'AMX': {name: _of_amx(name, prices) for name, prices in _AVX512.items()},
}
