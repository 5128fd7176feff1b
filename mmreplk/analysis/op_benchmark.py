"""Timing the large-kernel depthwise convolution against its rivals."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import depthwise_conv2d, reference
from .timing import time_in_turns

PASSES = ('forward', 'grad_input', 'grad_weight', 'forward+backward')
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}  # of the largest value


class Case(NamedTuple):
    """A square convolution: input ``(N, C, H, H)``, kernel ``K x K``."""
    n: int
    c: int
    h: int
    k: int

    @property
    def useful_flop(self) -> int:
        """Operations of one pass on the taps that fall inside the map, two for each."""
        half = self.k // 2
        taps = sum(min(self.h - 1, y + half) - max(0, y - half) + 1 for y in range(self.h))
        return 2 * self.n * self.c * taps**2


def _torch(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2), groups=len(weight))


def _channels_last(x: Tensor, weight: Tensor) -> Tensor:
    return _torch(x.to(memory_format=torch.channels_last), weight)


def _fft(x: Tensor, weight: Tensor) -> Tensor:
    (kh, kw), (h, w) = weight.shape[-2:], x.shape[-2:]
    size = (h + kh - 1, w + kw - 1)
    spectrum = torch.fft.rfft2(x.float(), s=size) * torch.fft.rfft2(weight[:, 0].float().flip(-1, -2), s=size)
    out = torch.fft.irfft2(spectrum, s=size)
    return out[..., kh // 2:kh // 2 + h, kw // 2:kw // 2 + w].to(x.dtype)


Rival = Callable[[Tensor, Tensor], Tensor]
RIVALS: dict[str, Rival] = {
    'mmreplk': depthwise_conv2d,
    'torch': _torch,
    'torch channels_last': _channels_last,
    'torch.fft': _fft,
}


def benchmark(case: Case, dtype: torch.dtype, device: str, passes: Sequence[str] = PASSES,
              rivals: dict[str, Rival] = RIVALS, rounds: int = 10) -> list[dict[str, Any]]:
    """Times rivals in turns, after comparing each with float64; one that is wrong is not timed.

    Args:
        case: What to convolve.
        dtype: Of input, filter and gradient.
        device: ``'cuda'`` or ``'cpu'``.
        passes: Some of PASSES. The gradients are timed without the forward that they follow.
        rivals: Functions of input and filter by name, such as RIVALS.
        rounds: How often each is timed.

    Returns:
        For each pass and rival, a row of the case, median and 20th and 80th percentile in milliseconds, useful
        TFLOP/s, peak extra memory in MiB (None on a CPU), all raw times, and ``error``, the largest over the passes,
        relative to the largest value.
    """
    x = torch.randn(case.n, case.c, case.h, case.h, device=device, dtype=dtype)
    weight = torch.randn(case.c, 1, case.k, case.k, device=device, dtype=dtype) / case.k
    grad = torch.randn_like(x)
    errors = {name: _error(rival, x, weight, grad) for name, rival in rivals.items()}
    right = [name for name in rivals if errors[name] <= TOLERANCE[dtype]]
    rows = [dict(**case._asdict(), dtype=str(dtype), rival=name, error=errors[name]) for name in rivals
            if name not in right]  # yapf: disable
    for what in passes:
        flop = case.useful_flop * (3 if what == 'forward+backward' else 1)
        work = {name: _work(what, rivals[name], x, weight, grad) for name in right}
        peaks = {name: _peak_mib(function, device) for name, function in work.items()}
        for name, times in time_in_turns(work, device, rounds).items():
            low, median, high = statistics.quantiles(times, n=10)[1::3]
            rows.append(
                dict(
                    **case._asdict(), dtype=str(dtype), rival=name, error=errors[name], what=what, median_ms=median,
                    percentile20_ms=low, percentile80_ms=high, useful_tflops=flop / median / 1e9, peak_mib=peaks[name],
                    raw_ms=times))
    return rows


def roofs(dtype: torch.dtype, device: str) -> dict[str, float]:
    """Measures the matrix multiplication rate, in TFLOP/s, and the copy bandwidth, in GB/s, of this very device."""
    size = 8192 if device == 'cuda' else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.empty(2**28 if device == 'cuda' else 2**26, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    times = time_in_turns(dict(gemm=lambda: a @ b, copy=lambda: target.copy_(source)), device, 10)
    return dict(gemm_tflops=2 * size**3 / statistics.median(times['gemm']) / 1e9,
                copy_gb_per_s=2 * source.numel() / statistics.median(times['copy']) / 1e6)  # yapf: disable


def _peak_mib(function: Callable[[], object], device: str) -> float | None:
    if device != 'cuda':
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _error(rival: Rival, x: Tensor, weight: Tensor, grad: Tensor) -> float:
    """Compares all three passes with float64, on two images and four channels, which do not depend on the others."""
    x, weight, grad = x[:2, :4].clone().requires_grad_(), weight[:4].clone().requires_grad_(), grad[:2, :4]
    out = rival(x, weight)
    actual = (out, *torch.autograd.grad(out, (x, weight), grad))
    xd, wd, gd = x.detach().double(), weight.detach().double(), grad.double()
    expected = (reference.forward(xd, wd), reference.grad_input(gd, wd),
                reference.grad_weight(xd, gd, tuple(weight.shape[-2:])))  # yapf: disable
    return max(((a.double() - e).abs().max() / e.abs().max()).item() for a, e in zip(actual, expected, strict=True))


def _work(what: str, rival: Rival, x: Tensor, weight: Tensor, grad: Tensor) -> Callable[[], object]:
    x, weight = x.detach().requires_grad_(what != 'grad_weight'), weight.detach().requires_grad_(what != 'grad_input')
    leaves = [t for t in (x, weight) if t.requires_grad]
    if what == 'forward':
        return torch.no_grad()(lambda: rival(x, weight))
    if what == 'forward+backward':
        return lambda: torch.autograd.grad(rival(x, weight), leaves, grad)
    out = rival(x, weight)
    return lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True)
