"""Times the rest of a network: 1x1 convolutions by cuDNN or as matrix products, and norms, fused or not."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .rounds import Call, copies_for, time_rounds

# (C, H = W) of RepLKNet-31B's stages on 512x512 images; its feed-forward blocks widen four times.
STAGES = [(128, 128), (256, 64), (512, 32), (1024, 16)]
WIDER = 4
# How far two ways of adding the same products may differ, relative to the largest value.
TOLERANCE = {torch.float32: 5e-3, torch.bfloat16: 2e-2, torch.float16: 5e-3}


def _conv(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight)


def _matmul(x: Tensor, weight: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return torch.matmul(weight.view(-1, c), x.view(n, c, h * w)).view(n, -1, h, w)


def _norm_and_activation(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(F.batch_norm(x, mean, var, weight, bias))


def benchmark_pointwise(
    batch: int,
    c: int,
    h: int,
    dtype: torch.dtype,
    device: str,
    rounds: int = 5,
) -> list[dict[str, Any]]:
    """Times ways to compute a 1x1 convolution to four times the channels, and the BatchNorm and GELU after it.

    The convolution runs on NCHW and on channels-last tensors, and as a batched matrix product on NCHW; BatchNorm in
    evaluation and GELU run one after the other, and compiled into one kernel.

    Args:
        batch: Images.
        c: Channels of the input.
        h: Height and width of the map.
        dtype: The dtype of maps and filters; BatchNorm's parameters are float32.
        device: ``'cuda'`` or ``'cpu'``.
        rounds: How often each is timed.

    Returns:
        A row for each way: what (``'1x1'`` or ``'norm'``), way, median and all raw times in milliseconds, the
        difference to the first way, relative to the largest value, GB/s of what must be read and written, and TFLOP/s.
        A way that raises has a row with ``raised``; one that differs is not timed.
    """
    x = torch.randn(batch, c, h, h, device=device, dtype=dtype)
    weight = torch.randn(WIDER * c, c, 1, 1, device=device, dtype=dtype) / c**.5
    wide = torch.randn(batch, WIDER * c, h, h, device=device, dtype=dtype)
    norm = [torch.rand(WIDER * c, device=device, dtype=torch.float32) + .5 for _ in range(4)]
    in_last = [t.contiguous(memory_format=torch.channels_last) for t in (x, weight)]
    ways = {
        '1x1': {
            'NCHW convolution': (_conv, x, weight),
            'NCHW matrix product': (_matmul, x, weight),
            'channels-last convolution': (_conv, *in_last),
        },
        'norm': {
            'BatchNorm, GELU': (_norm_and_activation, wide, *norm),
            'compiled into one': (torch.compile(_norm_and_activation), wide, *norm),
        },
    }
    values = {'1x1': (1 + WIDER) * x.numel() + weight.numel(), 'norm': 2 * wide.numel()}
    flop = {'1x1': 2 * x.numel() * WIDER * c, 'norm': 0}
    rows = []
    with torch.no_grad():
        for what, own in ways.items():
            common = dict(what=what, n=batch, c=c, h=h, dtype=str(dtype).removeprefix('torch.'))
            work, expected = {}, None
            for way, (function, first, *others) in own.items():
                row = dict(common, way=way)
                rows.append(row)
                try:
                    out = function(first, *others).float()
                except Exception as error:  # A compiler may be missing or fail.
                    row['raised'] = f'{type(error).__name__}: {error}'.splitlines()[0]
                    continue
                expected = out if expected is None else expected
                row['difference'] = ((out - expected).abs().max() / expected.abs().max()).item()
                if row['difference'] <= TOLERANCE[dtype]:
                    work[way] = _in_turns(function, first, others, copies_for(first.nbytes, device))
            measured = time_rounds(work, device, rounds)
            for row in rows:
                times = measured.ms.get(row['way'])
                if row['what'] == what and times:
                    median = statistics.median(times)
                    row.update(median_ms=median, raw_ms=times, canary=measured.canary,
                               least_gb_per_s=values[what] * x.itemsize / median / 1e6,
                               tflops=flop[what] / median / 1e9)
    return rows


def _in_turns(function: Callable[..., Tensor], first: Tensor, others: list[Tensor], count: int) -> Call:
    copies = [first.clone() if i else first for i in range(count)]
    return lambda i: function(copies[i % count], *others)
