"""The public large-kernel depthwise convolution, and the one place that chooses its backend."""

import functools
import logging
import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..required import TRITON_PROBLEM
from . import cpu, custom_ops, gpu, memory_format, passes
from .cpu import facts

# What autocast lowers; it leaves float64 alone.
LOWERED = (torch.float32, torch.bfloat16, torch.float16)
BACKENDS = ('torch', 'cpu', 'triton')


def depthwise_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: str | int | tuple[int, int] = 'same',
    dilation: int | tuple[int, int] = 1,
    activation: str | None = None,
    backend: str | None = None,
) -> Tensor:
    """Convolves every channel with its own filter, fast for kernels up to 51x51 and beyond.

    The same function as ``torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups=C)``.
    Stride 1 and "same" padding with odd kernels take the fast path on x86 CPUs and on NVIDIA GPUs with tensor cores
    (float32, bfloat16, float16, accumulated in float32); everything else is left to PyTorch where that is right. Output
    and gradients have the memory format that PyTorch gives them: channels-last if the input or the filter is. On GPUs,
    float32 is multiplied in TF32 if PyTorch's convolutions may use it. The fast path is differentiable once in all
    three tensors; a second derivative raises RuntimeError. ``vmap`` is a loop there.

    Args:
        x: Input ``(N, C, H, W)``.
        weight: One filter per channel, ``(C, 1, KH, KW)``.
        bias: Added per channel, ``(C,)``.
        stride: Step between outputs, in input pixels.
        padding: Zeros on each side, in pixels, or ``'same'``: as many as keep ``H`` and ``W`` at stride 1.
        dilation: Step between taps, in input pixels.
        activation: ``'relu'`` to end with ReLU, in the same pass on the fast path.
        backend: ``'torch'``, ``'cpu'`` or ``'triton'``; None for the one that should be fastest.

    Returns:
        ``(N, C, H', W')``; with the defaults ``(N, C, H, W)``.

    Raises:
        TypeError: If an operand is not a tensor, or dtypes differ outside autocast.
        ValueError: If shapes, devices, the padding or the activation do not fit, or ``backend`` cannot compute this.

    Source: "Scaling Up Your Kernels to 31x31", arXiv 2203.06717, Section 3.1, for why; :mod:`mmreplk.ops.cpu` and
    :mod:`mmreplk.ops.triton` for how.
    """
    # Convolving a small map takes no longer than some hundred attribute lookups. So operands are inspected once, for
    # the key of the plan, and again only if something fails.
    try:
        key = _key(x, weight, bias, stride, padding, dilation, backend)
        plan = None if key is None else _PLANS.get(key)
        if plan is None:
            plan = planned(x, weight, bias, stride, padding, dilation, backend)
            if key is not None:
                if len(_PLANS) >= MOST_PLANS:
                    _PLANS.clear()
                _PLANS[key] = plan
        relu = activation is not None and _is_relu(activation)
        if plan.backend == 'torch':
            out = F.conv2d(x, weight, bias, *plan.geometry[:3], weight.shape[0])
            return out.relu() if relu else out
        return _fast(plan, x, weight, bias, relu, is_plain=key is not None)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        _check(x, weight, bias)
        raise


def backends() -> dict[str, str | None]:
    """Returns the backends by name: None for one that works on this machine, else the reason why not."""
    gpu = torch.device('cuda', torch.cuda.current_device()) if torch.cuda.is_available() else None
    return {name: _why_not_here(name, gpu) for name in BACKENDS}


def may_gain(
    kernel_size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: str | int | tuple[int, int] = 'same',
    dilation: int | tuple[int, int] = 1,
) -> bool:
    """Returns whether there is an input that this operator convolves faster than PyTorch, or right where that is not.

    The input may have any size and dtype, on the CPU of this machine or on any GPU.

    Args:
        kernel_size: Extent of the filters, ``(KH, KW)``.
        stride: As in :func:`depthwise_conv2d`.
        padding: As there.
        dilation: As there.
    """
    geometry = _geometry(kernel_size, stride, padding, dilation)
    if geometry.is_same and math.prod(kernel_size) >= min(gpu.SMALLEST_TAPS.values()):
        return True
    is_wrong = max(kernel_size) > facts.LARGEST_SOUND or max(geometry.dilation) > 1
    return bool(facts.SLOW_DTYPES) or (cpu.IS_SUPPORTED and is_wrong)


class Geometry(NamedTuple):
    """Stride, padding and dilation as ``F.conv2d`` takes them, and whether an odd kernel keeps the map's size."""
    stride: tuple[int, int]
    padding: str | tuple[int, int]
    dilation: tuple[int, int]
    is_same: bool


class Plan(NamedTuple):
    """What to compute, on which backend, and whether the output is channels-last."""
    geometry: Geometry
    backend: str
    channels_last: bool


# Plans of eager calls, by all that they depend on: planning takes as long as convolving a small map.
_PLANS: dict[tuple, Plan] = {}
MOST_PLANS = 4096
PLAIN = {Tensor, torch.nn.Parameter}


def _key(x: Tensor, weight: Tensor, bias: Tensor | None, *options: object) -> tuple | None:
    """Returns what a plan depends on; None for subclasses of tensors, under a compiler or tracer, or for lists."""
    is_plain = type(x) in PLAIN and type(weight) in PLAIN and (bias is None or type(bias) in PLAIN)
    if not is_plain or torch.compiler.is_compiling() or torch.jit.is_tracing() or list in map(type, options):
        return None
    return (x.shape, x.stride(), x.device, _compute_dtype(x), x.dtype, weight.shape, weight.stride(), weight.device,
            weight.dtype, None if bias is None else (bias.shape, bias.device, bias.dtype), _wanted(x, weight),
            torch.get_num_threads(), options)


def _wanted(x: Tensor, weight: Tensor) -> tuple[bool, bool]:
    """Returns whether the gradient of ``x`` will be needed, and whether that of ``weight`` will."""
    return (x.requires_grad, weight.requires_grad) if torch.is_grad_enabled() else (False, False)


def planned(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int | tuple[int, int],
             padding: str | int | tuple[int, int], dilation: int | tuple[int, int], backend: str | None) -> Plan:
    """Returns what :func:`depthwise_conv2d` will do."""
    _, channels_per_group, kh, kw = weight.shape
    if torch.jit.is_tracing():
        (channels_per_group, kh, kw), backend = _as_integers((channels_per_group, kh, kw)), backend or 'torch'
    if x.ndim != 4 or channels_per_group != 1 or x.device != weight.device:
        raise ValueError
    if stride == 1 and padding == 'same' and dilation == 1 and kh % 2 and kw % 2:
        geometry = Geometry((1, 1), (kh // 2, kw // 2), (1, 1), True)
    else:
        geometry = _geometry((kh, kw), stride, padding, dilation)
    if backend is None:
        backend = _choose_backend(x, weight, (kh, kw), geometry)
    elif (reason := _why_not(backend, x, geometry)) is not None:
        raise ValueError(f'backend {backend!r} cannot compute this: {reason}')
    if backend == 'torch':  # PyTorch checks the operands itself
        return Plan(geometry, backend, False)
    _check(x, weight, bias)
    return Plan(geometry, backend, memory_format.is_channels_last(x) or memory_format.is_channels_last(weight))


def _constant(function: Callable) -> Callable:
    """As ``torch.compiler.assume_constant_result``, whose import of Dynamo takes as long as that of PyTorch."""
    function._dynamo_marked_constant = True
    return function


@_constant
def _is_exported() -> bool:
    """Whether an exporter is active, which should see an ordinary convolution.

    Python evaluates this, not Dynamo, in which ``is_exporting`` is always true in PyTorch 2.11.
    """
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def _as_integers(sizes: Sequence[int | Tensor]) -> list[int]:
    """Returns sizes as integers: ``torch.jit.trace`` makes tensors of them, but those of a filter do not change."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        return [int(size) for size in sizes]


def _choose_backend(x: Tensor, weight: Tensor, kernel_size: tuple[int, int], geometry: Geometry) -> str:
    """Returns the backend that should be fastest: ``'torch'``, or the one for the device of ``x``."""
    wanted = _wanted(x, weight)
    if x.is_cuda:
        is_faster = gpu.gains(x.numel(), kernel_size, wanted[1])
    else:
        is_faster = cpu.gains(x, weight, _compute_dtype(x), geometry.dilation, geometry.is_same, wanted)
    if not is_faster or _is_exported():
        return 'torch'
    backend = 'triton' if x.is_cuda else 'cpu'
    reason = _why_not(backend, x, geometry)
    if reason is None:
        return backend
    if x.is_cuda and not torch.compiler.is_compiling():
        _log_once(f'depthwise_conv2d leaves kernels of {max(kernel_size)} on {x.device.type} to PyTorch: {reason}')
    return 'torch'


def _why_not(backend: str, x: Tensor, geometry: Geometry) -> str | None:
    """Returns why ``backend`` cannot compute this; None if it can."""
    if backend == 'torch':
        return None
    if backend not in BACKENDS:
        return "there are 'torch', 'cpu' and 'triton'"
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f'it needs float32, bfloat16 or float16, got {x.dtype}'
    if x.numel() == 0:
        return f'it needs a non-empty input, got {tuple(x.shape)}'
    if x.device.type != ('cpu' if backend == 'cpu' else 'cuda'):
        return f'the input is on {x.device}'
    if backend == 'triton' and not geometry.is_same:
        return 'it needs odd kernel sizes, stride 1 and "same" padding'
    return _why_not_here(backend, x.device)


def _why_not_here(backend: str, gpu: torch.device | None) -> str | None:
    """Returns why ``backend`` does not work on this machine, or on ``gpu``; None if it does."""
    if backend == 'torch':
        return None
    if backend == 'cpu':
        return None if cpu.IS_SUPPORTED else 'it needs an x86 CPU with AVX2 and oneDNN'
    if TRITON_PROBLEM is not None:
        return TRITON_PROBLEM
    if gpu is None:
        return 'PyTorch finds no GPU that it can use'
    if torch.version.hip or torch.cuda.get_device_properties(gpu).major < 8:
        return 'it needs an NVIDIA GPU of compute capability 8.0 or higher'
    return _fault_of_triton(gpu)


@_constant
@functools.cache
def _fault_of_triton(device: torch.device) -> str | None:
    """Returns why Triton cannot compile and run a kernel here, such as without a C compiler; None if it can."""
    try:
        from . import triton
        with torch.cuda.device(device):
            x = torch.ones(1, 1, 8, 8, device=device)
            triton.forward(x, x[..., :3, :3])
    except Exception as error:  # Compilers and drivers raise what they like.
        return f'Triton does not work here: {type(error).__name__}: {error}'.splitlines()[0]
    return None


def _fast(plan: Plan, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, is_plain: bool) -> Tensor:
    if _is_autocast(x):
        x, weight, bias = _autocast(x, weight, bias)
    (stride, padding, dilation, _), _, channels_last = plan
    if padding == 'same':  # of an even kernel: the odd zero goes to the right and the bottom
        total = [d * (k - 1) for k, d in zip(weight.shape[2:], dilation, strict=True)]
        x, padding = F.pad(x, (0, total[1] % 2, 0, total[0] % 2)), tuple(t // 2 for t in total)
    operands = x, weight, bias, relu, stride, padding, dilation, channels_last
    if not is_plain or custom_ops.is_watched():
        return custom_ops.depthwise_conv2d(*operands)
    is_differentiated = x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    if torch.is_grad_enabled() and is_differentiated:
        return custom_ops.DepthwiseConv2d.apply(*operands)
    return passes.forward(*operands)


@functools.cache
def _log_once(message: str) -> None:
    logging.getLogger('mmreplk').warning(message)


def _compute_dtype(x: Tensor) -> torch.dtype:
    """Returns the dtype that autocast gives ``x`` in ``F.conv2d``."""
    return torch.get_autocast_dtype(x.device.type) if _is_autocast(x) else x.dtype


def _autocast(x: Tensor, *others: Tensor | None) -> list[Tensor | None]:
    """Casts operands as autocast does for ``F.conv2d``."""
    dtype = _compute_dtype(x)
    return [t if t is None else t.to(dtype) for t in (x, *others)]


def _check(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raises TypeError or ValueError if something is wrong with the operands."""
    operands = dict(x=x, weight=weight) if bias is None else dict(x=x, weight=weight, bias=bias)
    for name, tensor in operands.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f'{name} must be a torch.Tensor, got {type(tensor).__name__}')
        if tensor.dtype != x.dtype and not _is_autocast(x, tensor):
            raise TypeError(f'{name} must have the dtype of x, {x.dtype}, got {tensor.dtype}')
        if tensor.device != x.device:
            raise ValueError(f'{name} must be on the device of x, {x.device}, got {tensor.device}')
    if not x.is_floating_point():
        raise TypeError(f'x must be of a floating-point dtype, got {x.dtype}')
    if x.ndim != 4:
        raise ValueError(f'x must have shape (N, C, H, W), got {tuple(x.shape)}')
    channels = x.shape[1]
    if weight.ndim != 4 or weight.shape[:2] != (channels, 1) or 0 in weight.shape[2:]:
        raise ValueError(f'weight must have shape ({channels}, 1, KH, KW), one filter for each of the {channels} '
                         f'channels of x, got {tuple(weight.shape)}')
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f'bias must have shape ({channels},), got {tuple(bias.shape)}')


def _is_relu(activation: str | None) -> bool:
    if activation not in (None, 'relu'):
        raise ValueError(f"activation must be None or 'relu', got {activation!r}")
    return activation == 'relu'


def _is_autocast(*tensors: Tensor) -> bool:
    """Whether autocast gives all ``tensors`` one dtype."""
    device = tensors[0].device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return False
    return all(t.dtype in LOWERED for t in tensors)


def _geometry(kernel_size: tuple[int, int], stride, padding, dilation) -> Geometry:
    stride, dilation = _pair('stride', stride, 1), _pair('dilation', dilation, 1)
    is_odd = all(k % 2 for k in kernel_size)
    same = tuple(d * (k // 2) for d, k in zip(dilation, kernel_size, strict=True))
    if padding != 'same':
        padding = _pair('padding', padding, 0)
    elif is_odd:
        padding = same
    elif stride != (1, 1):
        raise ValueError(f"padding 'same' needs an odd kernel where the stride is not 1, got a kernel of {kernel_size}")
    return Geometry(stride, padding, dilation, is_odd and stride == (1, 1) and padding == same)


def _pair(name: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else value
    is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not is_pair or not all(isinstance(v, int) and v >= least for v in pair):
        allowed = "'same', " if name == 'padding' else ''
        raise ValueError(f'{name} must be {allowed}an integer >= {least} or a pair of them, got {value!r}')
    return tuple(pair)
