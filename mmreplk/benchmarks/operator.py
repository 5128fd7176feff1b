"""Timing the large-kernel depthwise convolution against its rivals."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import depthwise_conv2d, reference
from .measure import peak_mib, time_in_turns
from .rounds import copies_for, synchronize, time_rounds

PASSES = ('forward', 'grad_input', 'grad_weight', 'forward+backward')


class Precision(NamedTuple):
    """How to compute: the dtype of the operands, and whether float32 may be multiplied in TF32 on a GPU."""
    dtype: torch.dtype
    tf32: bool
    tolerance: float  # of the largest value


PRECISIONS = {
    'float32': Precision(torch.float32, False, 1e-4),
    'tf32': Precision(torch.float32, True, 5e-3),
    'bfloat16': Precision(torch.bfloat16, False, 2e-2),
    'float16': Precision(torch.float16, False, 5e-3),
}
CHECKED = 2  # images and channels that are compared with float64; none depends on the others


class Case(NamedTuple):
    """A convolution of a square map: input ``(N, C, H, H)``, kernel ``K x KW``; ``K x K`` where ``kw`` is None."""
    n: int
    c: int
    h: int
    k: int
    kw: int | None = None

    @property
    def kernel_size(self) -> tuple[int, int]:
        return self.k, self.kw or self.k

    def useful_flop(self, what: str) -> int:
        """Operations of one of PASSES on the taps that fall inside the map, two for each."""
        ky, kx = (sum(min(self.h - 1, y + k // 2) - max(0, y - k // 2) + 1 for y in range(self.h))
                  for k in self.kernel_size)
        return 2 * self.n * self.c * ky * kx * (3 if what == 'forward+backward' else 1)

    def least_values(self, what: str) -> int:
        """Values that one of PASSES must read and write at least: two maps and a filter."""
        values = 2 * self.n * self.c * self.h**2 + self.c * math.prod(self.kernel_size)
        return values * (3 if what == 'forward+backward' else 1)


def _torch(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2), groups=len(weight))


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
    'torch channels_last': _torch,
    'torch.fft': _fft,
}
LAYOUTS = {'torch channels_last': torch.channels_last}  # the format of a rival's operands, if not contiguous


def rivals_on(device: str) -> dict[str, Rival]:
    """Returns RIVALS and, on a GPU, PyTorch's two kinds of kernels by name: its own, and cuDNN's if there is a switch.

    Which of the two PyTorch takes by itself, as ``'torch'``, depends on dtype, shape and version.
    """
    if device != 'cuda':
        return RIVALS
    asked = {'torch cudnn': _torch} if hasattr(torch.backends.cudnn, 'depthwise_kernel') else {}
    return RIVALS | {'torch native': _torch} | asked


def _way(rival: str) -> AbstractContextManager:
    """Returns a context that selects which of PyTorch's kernels a rival runs, in its backward pass too."""
    cudnn = torch.backends.cudnn
    kept = dict(benchmark=cudnn.benchmark, benchmark_limit=cudnn.benchmark_limit, allow_tf32=cudnn.allow_tf32)
    if rival == 'torch cudnn':
        return cudnn.flags(enabled=True, depthwise_kernel='cudnn', **kept)
    if rival == 'torch native':
        return cudnn.flags(enabled=False, **kept)
    return nullcontext()


def benchmark(case: Case, precision: str, device: str, passes: Sequence[str] = PASSES,
              rivals: dict[str, Rival] | None = None, rounds: int = 10) -> list[dict[str, Any]]:
    """Times rivals in rounds, after comparing each with float64; one that is wrong, or raises, is not timed.

    Args:
        case: What to convolve.
        precision: One of PRECISIONS.
        device: ``'cuda'`` or ``'cpu'``.
        passes: Some of PASSES. ``'forward'`` is that of inference. The gradients are timed without the forward pass
            before them, ``'grad_input'`` with a frozen filter.
        rivals: Functions of input and filter by name, such as RIVALS; None for :func:`rivals_on`.
        rounds: How often each is timed.

    Returns:
        For each pass and rival, a row: the case, median and 20th and 80th percentile in milliseconds, useful TFLOP/s,
        GB/s of what must be read and written at least, peak extra memory in MiB (None on a CPU), all raw times, the
        cost model's prediction for ours (None for others and on a CPU), whether calls were queued and the canary of
        each round (:mod:`mmreplk.benchmarks.rounds`), how many copies of the operands took turns, and ``error``, the
        largest over the passes, relative to the largest value. For a rival that is not timed, a row with the case and
        ``error``, or ``raised``, its error message.
    """
    rivals = rivals_on(device) if rivals is None else rivals
    dtype, _, tolerance = PRECISIONS[precision]
    x = torch.randn(case.n, case.c, case.h, case.h, device=device, dtype=dtype)
    weight = torch.randn(case.c, 1, *case.kernel_size, device=device, dtype=dtype) / math.prod(case.kernel_size)**.5
    grad, rows = torch.randn_like(x), []
    copies = copies_for(x.nbytes + weight.nbytes, device)
    operands = {}
    for name in rivals:
        layout = LAYOUTS.get(name, torch.contiguous_format)
        operands[name] = x.contiguous(memory_format=layout), weight, grad.contiguous(memory_format=layout)
    with _tf32(precision):
        verdicts = {name: _verdict(name, rival, *operands[name]) for name, rival in rivals.items()}
        common = {name: dict(**case._asdict(), precision=precision, rival=name, **verdicts[name]) for name in rivals}
        right = [name for name in rivals if common[name].get('error', math.inf) <= tolerance]
        rows += [common[name] for name in rivals if name not in right]
        for what in passes:
            work = {name: _work(what, name, rivals[name], operands[name], copies) for name in right}
            peaks = {name: peak_mib(lambda call=call: call(0), device) if device == 'cuda' else None
                     for name, call in work.items()}
            measured = time_rounds(work, device, rounds)
            for name, times in measured.ms.items():
                low, median, high = statistics.quantiles(times, n=10)[1::3]
                predicted = _predicted_ms(case, x, what) if rivals[name] is depthwise_conv2d else None
                rows.append(
                    dict(
                        **common[name], what=what, median_ms=median, percentile20_ms=low, percentile80_ms=high,
                        predicted_ms=predicted, useful_tflops=case.useful_flop(what) / median / 1e9,
                        least_gb_per_s=case.least_values(what) * x.itemsize / median / 1e6, peak_mib=peaks[name],
                        raw_ms=times, queued=name in measured.queued, copies=copies, canary=measured.canary))
            del work
    return rows


def _predicted_ms(case: Case, x: Tensor, what: str) -> float | None:
    """Returns what the cost model predicts for ours, with the tile that is used without tuning."""
    if not x.is_cuda:
        return None
    from ..ops.triton import cost, layout, tiles
    from ..ops.triton.grad_weight import product_precision
    gpu, columns = layout.gpu_of(x), tiles.round_up(case.h, tiles.ALIGN)
    problem = tiles.Problem(*case[:3], columns, *sorted(case.kernel_size), 1, 1, x.itemsize, layout.precision_of(x))
    forward = cost.forward(problem, cost.forward_tiles(problem, gpu)[0], gpu)
    problem = problem._replace(precision=product_precision(x, gpu))
    grad_weight = cost.grad_weight(problem, cost.grad_weight_tiles(problem, gpu)[0], gpu)
    microseconds = {'grad_weight': grad_weight, 'forward+backward': 2 * forward + grad_weight}.get(what, forward)
    return microseconds / 1e3


def roofs(precision: str, device: str, rounds: int = 10) -> dict[str, float]:
    """Measures the matrix multiplication rate, in TFLOP/s, and the copy bandwidth, in GB/s, of this device."""
    size = 8192 if device == 'cuda' else 2048
    a, b = (torch.randn(size, size, device=device, dtype=PRECISIONS[precision].dtype) for _ in range(2))
    source = torch.empty(2**28 if device == 'cuda' else 2**26, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    with _tf32(precision):
        times = time_in_turns(dict(gemm=lambda: a @ b, copy=lambda: target.copy_(source)), device, rounds)
    return dict(gemm_tflops=2 * size**3 / statistics.median(times['gemm']) / 1e9,
                copy_gb_per_s=2 * source.numel() / statistics.median(times['copy']) / 1e6)


@contextmanager
def _tf32(precision: str) -> Iterator[None]:
    """Lets PyTorch's convolutions and matrix products multiply float32 as ``precision`` says."""
    backends = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = PRECISIONS[precision].tf32
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def _verdict(name: str, rival: Rival, x: Tensor, weight: Tensor, grad: Tensor) -> dict[str, float | str]:
    try:
        with _way(name):
            return dict(error=_error(rival, x, weight, grad))
    except (RuntimeError, TypeError, ValueError) as error:  # Not every library takes every dtype and shape.
        synchronize(x.device.type)  # after a fault that leaves no GPU to measure on, this raises
        return dict(raised=f'{type(error).__name__}: {error}')


def _error(rival: Rival, x: Tensor, weight: Tensor, grad: Tensor) -> float:
    """Compares all three passes, computed as they will be timed, with float64 on CHECKED images and channels."""
    leaves = x.detach().requires_grad_(), weight.detach().requires_grad_()
    out = rival(*leaves)
    grad_x, grad_weight = torch.autograd.grad(out, leaves, grad)
    some = slice(CHECKED), slice(CHECKED)
    xd, wd, gd = x[:, some[1]].double(), weight[some[1]].double(), grad[:, some[1]].double()
    pairs = [(out[some], reference.forward(xd[some], wd)), (grad_x[some], reference.grad_input(gd[some], wd)),
             (grad_weight[some[1]], reference.grad_weight(xd, gd, tuple(weight.shape[-2:])))]
    return max(((a.double() - e).abs().max() / e.abs().max()).item() for a, e in pairs)


def _work(what: str, name: str, rival: Rival, operands: tuple[Tensor, Tensor, Tensor],
          copies: int) -> Callable[[int], object]:
    """Returns a pass of a rival as a function of the call's number, which selects the copy of the operands."""
    with _way(name):
        calls = [_pass(what, rival, *(t.clone() if i else t for t in operands)) for i in range(copies)]

    def work(i: int) -> object:
        with _way(name):
            return calls[i % copies]()

    return work


def _pass(what: str, rival: Rival, x: Tensor, weight: Tensor, grad: Tensor) -> Callable[[], object]:
    x, weight = x.detach().requires_grad_(what != 'grad_weight'), weight.detach().requires_grad_(what != 'grad_input')
    leaves = [t for t in (x, weight) if t.requires_grad]
    if what == 'forward':
        return torch.no_grad()(lambda: rival(x, weight))
    if what == 'forward+backward':
        return lambda: torch.autograd.grad(rival(x, weight), leaves, grad)
    out = rival(x, weight)
    return lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True)
