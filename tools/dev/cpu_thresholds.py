"""Measuring the shapes from which one way of convolving on a CPU beats another: the data of :mod:`mmreplk.ops.cpu`."""

import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmreplk.benchmarks.measure import time_in_turns
from mmreplk.ops import cpu, depthwise_conv2d

KERNEL_SIZES = (3, 5, 7, 9, 11, 13, 15, 17, 21, 25, 31, 41, 51)
MAPS = ((1, 128, 64), (1, 512, 32), (2, 64, 33))  # N, C, H = W
ROUNDS = 5


def measure_kernel_sizes() -> dict[str, float]:
    """Times, over KERNEL_SIZES and on MAPS, the ways that the thresholds on kernel sizes choose from.

    Returns:
        By the name of the threshold, the value that fits this machine; infinity if there is no such size.
    """
    forward, channels_last, grad_weight = {}, {}, {}
    for k in KERNEL_SIZES:
        ratios = [_kernel_size_ratios(*shape, k) for shape in MAPS]
        forward[k], channels_last[k], grad_weight[k] = map(statistics.geometric_mean, zip(*ratios, strict=True))
    # A forward that oneDNN refuses is several times slower.
    served = [k for k in KERNEL_SIZES if forward[k] > 0.5]
    return dict(LARGEST_FORWARD=max(served), SMALLEST_CHANNELS_LAST=_first_lasting(channels_last),
                SMALLEST_GRAD_WEIGHT=_first_lasting(grad_weight))  # yapf: disable


def measure_work(trains: bool, shapes: int = 120) -> float:
    """Times small random shapes, chosen by size to take the fast path, on it and on PyTorch.

    Returns:
        The work, ``N * C * H * W * KH * KW``, from which on the fast path is faster in nine of ten shapes; infinity if
        it is nowhere.
    """
    rng = random.Random(0)
    ratios: list[tuple[int, float]] = []
    least = cpu.SMALLEST_GRAD_WEIGHT if trains else cpu.LARGEST_FORWARD + 2
    while len(ratios) < shapes:
        n, c, h = rng.choice((1, 2, 4)), rng.choice((16, 32, 64, 128, 256)), rng.choice((7, 10, 14, 20, 28))
        k = rng.choice([k for k in KERNEL_SIZES if least <= k <= 31])
        work = n * c * h * h * k * k
        if 5e4 < work < 5e6:
            ratios.append((work, _work_ratio(n, c, h, k, trains)))
    return _mostly_from(ratios)


def measure_fft(shapes: int = 60) -> dict[str, float]:
    """Times random shapes by Fourier transforms and by oneDNN's kernels.

    Returns:
        For each pass, the products per transformed pixel from which on transforms are faster in nine of ten shapes;
        infinity if they are nowhere. The forward in bfloat16 only where oneDNN's kernels take it.
    """
    rng = random.Random(0)
    ratios: dict[str, list[tuple[float, float]]] = defaultdict(list)
    sizes = [k for k in KERNEL_SIZES if k > cpu.LARGEST_FORWARD]
    while len(ratios['forward']) < shapes:
        n, c, h = rng.choice((1, 2, 4)), rng.choice((64, 128, 256)), rng.choice((16, 24, 32, 48, 64, 96))
        k = rng.choice(sizes)
        shape, kernel_size = (n, c, h, h), (k, k)
        if 30 < cpu.products_per_pixel('forward', shape, kernel_size) < 200 and n * c * h * h * k * k < 6e8:
            for what, ratio in _fft_ratios(n, c, h, k).items():
                ratios[what].append((cpu.products_per_pixel(what, shape, kernel_size), ratio))
    return {what: _mostly_from(pairs) for what, pairs in ratios.items()}


def _mostly_from(ratios: list[tuple[float, float]]) -> float:
    """Returns the least first value from which on nine of ten second ones are above one, infinity if there is none."""
    ratios = sorted(ratios)
    for i, (value, ratio) in enumerate(ratios):
        beyond = [other > 1 for _, other in ratios[i:]]
        if ratio > 1 and sum(beyond) >= 0.9 * len(beyond):
            return value
    return math.inf


def _kernel_size_ratios(n: int, c: int, h: int, k: int) -> tuple[float, float, float]:
    """Returns transposed over forward, transposed over channels-last forward, PyTorch's weight gradient over ours."""
    x, weight = torch.randn(n, c, h, h), torch.randn(c, 1, k, k)
    parameter = weight.clone().requires_grad_()
    out = F.conv2d(x, parameter, padding=k // 2, groups=c)

    def channels_last() -> Tensor:
        y = F.conv2d(x.contiguous(memory_format=torch.channels_last), weight, padding=k // 2, groups=c)
        return y.contiguous()

    times = _medians(
        dict(
            forward=lambda: F.conv2d(x, weight, padding=k // 2, groups=c),
            transposed=lambda: F.conv_transpose2d(x, weight.flip(-1, -2), padding=k // 2, groups=c),
            channels_last=channels_last,
            theirs=lambda: torch.autograd.grad(out, parameter, x, retain_graph=True),
            ours=lambda: cpu.grad_weight(x, x, (k, k))))
    return (times['transposed'] / times['forward'], times['transposed'] / times['channels_last'],
            times['theirs'] / times['ours'])  # yapf: disable


def _work_ratio(n: int, c: int, h: int, k: int, trains: bool) -> float:
    x, weight = torch.randn(n, c, h, h, requires_grad=trains), torch.randn(c, 1, k, k, requires_grad=trains)

    def run(backend: str) -> Callable[[], object]:
        if not trains:
            return lambda: depthwise_conv2d(x, weight, backend=backend)
        return lambda: torch.autograd.grad(depthwise_conv2d(x, weight, backend=backend), (x, weight), x.detach())

    times = _medians(dict(torch=run('torch'), cpu=run('cpu')))
    return times['torch'] / times['cpu']


def _fft_ratios(n: int, c: int, h: int, k: int) -> dict[str, float]:
    x, weight = torch.randn(n, c, h, h), torch.randn(c, 1, k, k)
    rounded = x.bfloat16(), weight.bfloat16()
    functions = dict(
        forward=(lambda: cpu.direct_convolve(x, weight), lambda: cpu.fft_convolve(x, weight)),
        grad_weight=(lambda: cpu.direct_grad_weight(x, x, (k, k)), lambda: cpu.fft_grad_weight(x, x, (k, k))))
    if cpu.HAS_BFLOAT16:
        functions['bfloat16_forward'] = (lambda: cpu.direct_convolve(*rounded),
                                         lambda: cpu.fft_convolve(*map(Tensor.float, rounded)).bfloat16())
    times = {what: _medians(dict(direct=direct, fft=fft)) for what, (direct, fft) in functions.items()}
    return {what: by_way['direct'] / by_way['fft'] for what, by_way in times.items()}


def _medians(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    return {name: statistics.median(times) for name, times in time_in_turns(functions, rounds=ROUNDS).items()}


def _first_lasting(ratios: dict[int, float]) -> float:
    """Returns the first size from which on every ratio is above one, infinity if there is none."""
    lasting = [k for k in ratios if all(ratio > 1 for other, ratio in ratios.items() if other >= k)]
    return min(lasting, default=math.inf)
