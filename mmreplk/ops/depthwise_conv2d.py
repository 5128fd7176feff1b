"""The public large-kernel depthwise convolution, and the one place that chooses what computes it."""

import functools
import logging
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..required import TRITON_PROBLEM
from . import cpu

# PyTorch's depthwise convolutions on GPUs are specialized up to this kernel extent.
LARGEST_SPECIALIZED = 7


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
    """Convolves every channel with a filter of its own, fast for kernels up to 51x51 and beyond.

    The same function as ``torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups=C)``.
    Stride 1, dilation 1 and "same" padding with odd kernels take the fast path on x86 CPUs and on NVIDIA GPUs with
    tensor cores (float32, bfloat16, float16, accumulated in float32); everything else is left to PyTorch. On GPUs,
    float32 is multiplied in TF32 where ``torch.backends.cudnn.allow_tf32`` says so. Differentiable once in all three
    tensors on the fast path, where a second derivative raises RuntimeError and ``vmap`` is a loop.

    Args:
        x: Input ``(N, C, H, W)``.
        weight: One filter per channel, ``(C, 1, KH, KW)``.
        bias: Added per channel, ``(C,)``.
        stride: Step between outputs, in input pixels.
        padding: Zeros on each side, in pixels, or ``'same'``: as many as keep ``H`` and ``W`` at stride 1.
        dilation: Step between taps, in input pixels.
        activation: ``'relu'`` to end with ReLU, in the same pass on the fast path.
        backend: What computes: ``'torch'``, ``'cpu'`` or ``'triton'``; None for the one that should be fastest.

    Returns:
        ``(N, C, H', W')``; with the defaults ``(N, C, H, W)``.

    Raises:
        TypeError: If an operand is not a tensor, or dtypes differ outside autocast.
        ValueError: If shapes, devices, the padding or the activation do not fit, or ``backend`` cannot compute this.

    Source: "Scaling Up Your Kernels to 31x31", arXiv 2203.06717, Section 3.1, for why; :mod:`mmreplk.ops.cpu` and
    :mod:`mmreplk.ops.triton` for how.
    """
    # A small map takes no longer than some hundred attribute lookups: operands are looked at only in case of error.
    try:
        groups, channels_per_group, kh, kw = weight.shape
        if x.ndim != 4 or channels_per_group != 1 or x.device != weight.device:
            raise ValueError
        if stride == 1 and padding == 'same' and dilation == 1 and kh % 2 and kw % 2:
            padding, is_same = (kh // 2, kw // 2), True
        else:
            stride, padding, dilation, is_same = _geometry((kh, kw), stride, padding, dilation)
        backend = _choose_backend(backend, x, weight, (kh, kw), is_same)
        if backend == 'torch':
            out = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
            return out.relu() if activation is not None and _is_relu(activation) else out
        return _fast(backend, x, weight, bias, activation)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        _check(x, weight, bias)
        raise


def can_be_faster(
    kernel_size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: str | int | tuple[int, int] = 'same',
    dilation: int | tuple[int, int] = 1,
) -> bool:
    """Returns whether some input, of any size and dtype, may take the fast path, on the CPU of this machine or a GPU.

    Args:
        kernel_size: Extent of the filters, ``(KH, KW)``.
        stride: As of :func:`depthwise_conv2d`, as are the others.
        padding: As there.
        dilation: As there.
    """
    *_, is_same = _geometry(kernel_size, stride, padding, dilation)
    smallest = min(cpu.SMALLEST_GRAD_WEIGHT, cpu.LARGEST_FORWARD + 1, LARGEST_SPECIALIZED + 1)
    return is_same and (bool(cpu.SLOW_DTYPES) or max(kernel_size) >= smallest)


def _choose_backend(asked: str | None, x: Tensor, weight: Tensor, kernel_size: tuple[int, int], is_same: bool) -> str:
    """Returns what computes: ``'cpu'`` or ``'triton'``, which take ``x`` by its device, or ``'torch'``."""
    if asked is not None:
        reason = _why_not(asked, x, is_same)
        if reason is not None:
            raise ValueError(f'backend {asked!r} cannot compute this: {reason}')
        return asked
    size = max(kernel_size)
    if x.is_cuda:
        is_faster = size > LARGEST_SPECIALIZED
    else:
        is_training = size >= cpu.SMALLEST_GRAD_WEIGHT and torch.is_grad_enabled() and weight.requires_grad
        dtype = torch.get_autocast_dtype('cpu') if torch.is_autocast_enabled('cpu') else x.dtype
        is_large = x.numel() * math.prod(kernel_size) >= cpu.SMALLEST_WORK[is_training]
        is_large = is_large or size > cpu.LARGEST_SOUND or cpu.may_never_return(x, weight, dtype)
        is_faster = dtype in cpu.SLOW_DTYPES or (is_large and (is_training or size > cpu.LARGEST_FORWARD))
    # Exporters and tracers are to see an ordinary convolution.
    if not is_faster or torch.jit.is_tracing() or torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return 'torch'
    backend = 'triton' if x.is_cuda else 'cpu'
    reason = _why_not(backend, x, is_same)
    if reason is None:
        return backend
    if x.is_cuda and not torch.compiler.is_compiling():
        _log_once(f'depthwise_conv2d leaves kernels of {size} on {x.device.type} to PyTorch: {reason}')
    return 'torch'


def _why_not(backend: str, x: Tensor, is_same: bool) -> str | None:
    """Returns why ``backend`` cannot compute this, None if it can."""
    if backend == 'torch':
        return None
    if backend not in ('cpu', 'triton'):
        return "there are 'torch', 'cpu' and 'triton'"
    if not is_same:
        return 'it needs odd kernel sizes, stride 1, dilation 1 and "same" padding'
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f'it needs float32, bfloat16 or float16, got {x.dtype}'
    if x.numel() == 0:
        return f'it needs a non-empty input, got {tuple(x.shape)}'
    if x.device.type != ('cpu' if backend == 'cpu' else 'cuda'):
        return f'the input is on {x.device}'
    if backend == 'cpu':
        return None if cpu.IS_SUPPORTED else 'it needs an x86 CPU with AVX2 and oneDNN'
    if TRITON_PROBLEM is not None:
        return TRITON_PROBLEM
    if torch.version.hip or torch.cuda.get_device_properties(x.device).major < 8:
        return 'it needs an NVIDIA GPU of compute capability 8.0 or higher'
    return None


def _fast(backend: str, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    relu = _is_relu(activation)
    is_training = torch.is_grad_enabled() and weight.requires_grad
    # The CUDA graphs of torch.compile suffer nothing that outlives a call.
    keep = not is_training and not torch.compiler.is_compiling()
    original = weight
    x, weight, bias = _autocast(x, weight, bias)
    _check(x, weight, bias)
    # A fresh copy in autocast's dtype would be another filter every time.
    return _depthwise_conv2d(x, original if keep and backend == 'triton' else weight, bias, relu, keep)


@functools.cache
def _log_once(message: str) -> None:
    logging.getLogger('mmreplk').warning(message)


def _autocast(x: Tensor, *others: Tensor | None) -> list[Tensor | None]:
    """Casts float operands as autocast does for ``F.conv2d``."""
    tensors = [x, *others]
    if not torch.is_autocast_enabled(x.device.type):
        return tensors
    dtype = torch.get_autocast_dtype(x.device.type)
    return [t if t is None else t.to(dtype) for t in tensors]


def _check(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raises what is wrong with the operands, if anything is."""
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
    lowered, device = (torch.float32, torch.bfloat16, torch.float16), tensors[0].device.type
    is_enabled = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return is_enabled and all(t.dtype in lowered for t in tensors)


def _geometry(kernel_size: tuple[int, int], stride, padding,
              dilation) -> tuple[tuple[int, int], str | tuple[int, int], tuple[int, int], bool]:
    """Returns stride, padding and dilation as pairs, and whether they are those of the fast path."""
    stride, dilation = _pair('stride', stride, 1), _pair('dilation', dilation, 1)
    is_odd = all(k % 2 for k in kernel_size)
    same = tuple(d * (k // 2) for d, k in zip(dilation, kernel_size, strict=True))
    if padding != 'same':
        padding = _pair('padding', padding, 0)
    elif is_odd:
        padding = same
    elif stride != (1, 1):
        raise ValueError(f"padding 'same' needs an odd kernel where the stride is not 1, got a kernel of {kernel_size}")
    return stride, padding, dilation, is_odd and stride == dilation == (1, 1) and padding == same


def _pair(name: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else value
    is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not is_pair or not all(isinstance(v, int) and v >= least for v in pair):
        allowed = "'same', " if name == 'padding' else ''
        raise ValueError(f'{name} must be {allowed}an integer >= {least} or a pair of them, got {value!r}')
    return tuple(pair)


# The fast path as one operator, so that autograd, torch.compile and opcheck see it whole. ``keep`` says that no
# gradient of the filter is wanted, so that Triton may keep what it makes of it; on a CPU there is nothing to keep.


@torch.library.custom_op('mmreplk::depthwise_conv2d', mutates_args=(), device_types='cpu')
def _depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, keep: bool) -> Tensor:
    out = cpu.forward(x, weight, bias)
    return out.relu_() if relu else out


@torch.library.custom_op('mmreplk::depthwise_conv2d_grad_input', mutates_args=(), device_types='cpu')
def _grad_input(grad_output: Tensor, weight: Tensor, keep: bool) -> Tensor:
    return cpu.grad_input(grad_output, weight)


@torch.library.custom_op('mmreplk::depthwise_conv2d_grad_weight', mutates_args=(), device_types='cpu')
def _grad_weight(x: Tensor, grad_output: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    return cpu.grad_weight(x, grad_output, (kernel_height, kernel_width))


# Triton launches on the current device, which need not be that of the tensors.


@_depthwise_conv2d.register_kernel('cuda')
def _(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, keep: bool) -> Tensor:
    from . import triton
    with torch.cuda.device_of(x):
        return triton.forward(x, weight, bias, relu, keep=keep)


@_grad_input.register_kernel('cuda')
def _(grad_output: Tensor, weight: Tensor, keep: bool) -> Tensor:
    from . import triton
    with torch.cuda.device_of(grad_output):
        return triton.grad_input(grad_output, weight, keep)


@_grad_weight.register_kernel('cuda')
def _(x: Tensor, grad_output: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    from . import triton
    with torch.cuda.device_of(x):
        return triton.grad_weight(x, grad_output, (kernel_height, kernel_width))


@_depthwise_conv2d.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, keep: bool) -> Tensor:
    return x.new_empty(x.shape)


@_grad_input.register_fake
def _(grad_output: Tensor, weight: Tensor, keep: bool) -> Tensor:
    return grad_output.new_empty(grad_output.shape)


@_grad_weight.register_fake
def _(x: Tensor, grad_output: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    return x.new_empty(x.shape[1], 1, kernel_height, kernel_width)


def _setup_context(ctx, inputs, output: Tensor) -> None:
    x, weight, _, relu, ctx.keep = inputs
    ctx.save_for_backward(x, weight, output if relu else None)


def _backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
    x, weight, rectified = ctx.saved_tensors
    if rectified is not None:
        grad_output = grad_output.masked_fill(rectified <= 0, 0)
    needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
    return (
        _grad_input(grad_output, weight, ctx.keep) if needs_x else None,
        _grad_weight(x, grad_output, *weight.shape[-2:]) if needs_weight else None,
        grad_output.sum((0, 2, 3)) if needs_bias else None,
        None,
        None,
    )


_depthwise_conv2d.register_autograd(_backward, setup_context=_setup_context)
