"""The public large-kernel depthwise convolution, and the one place that chooses what computes it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import cpu


def depthwise_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: str | int | tuple[int, int] = 'same',
    dilation: int | tuple[int, int] = 1,
) -> Tensor:
    """Convolves every channel with a filter of its own, fast for kernels up to 51x51 and beyond.

    The same function as ``torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups=C)``.
    Stride 1, dilation 1 and "same" padding with odd kernels take the fast path on x86 CPUs (float32, bfloat16,
    float16, the last two accumulated in float32); everything else is left to PyTorch. Differentiable once in all
    three tensors on the fast path; asking it for a second derivative raises RuntimeError.

    Args:
        x: Input ``(N, C, H, W)``.
        weight: One filter per channel, ``(C, 1, KH, KW)``.
        bias: Added per channel, ``(C,)``.
        stride: Step between outputs, in input pixels.
        padding: Zeros on each side, in pixels, or ``'same'``: as many as keep ``H`` and ``W`` at stride 1.
        dilation: Step between taps, in input pixels.

    Returns:
        ``(N, C, H', W')``; with the defaults ``(N, C, H, W)``.

    Raises:
        TypeError: If an operand is not a tensor, or dtypes differ outside autocast.
        ValueError: If shapes, devices or the padding do not fit.

    Source: "Scaling Up Your Kernels to 31x31", arXiv 2203.06717, Section 3.1, for why; :mod:`mmreplk.ops.cpu` for how.
    """
    x, weight, bias = _autocast(x, weight, bias)
    _check(x, weight, bias)
    stride, dilation = _pair('stride', stride, 1), _pair('dilation', dilation, 1)
    is_odd = all(k % 2 for k in weight.shape[-2:])
    same = tuple(d * (k // 2) for d, k in zip(dilation, weight.shape[-2:], strict=True))
    if padding != 'same':
        padding = _pair('padding', padding, 0)
    elif is_odd:
        padding = same
    elif stride != (1, 1):
        raise ValueError("padding 'same' needs an odd kernel where the stride is not 1, got a kernel of "
                         f'{tuple(weight.shape[-2:])}')
    if is_odd and stride == dilation == (1, 1) and padding == same and _cpu_is_faster(x, weight):
        return _depthwise_conv2d(x, weight, bias)
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups=weight.shape[0])


def _cpu_is_faster(x: Tensor, weight: Tensor) -> bool:
    """Whether the passes of :mod:`mmreplk.ops.cpu` beat PyTorch's own, for odd kernels with "same" padding."""
    if cpu.LARGEST_FORWARD is None or x.device.type != 'cpu' or x.dtype == torch.float64 or x.numel() == 0:
        return False
    # Exporters and tracers are to see an ordinary convolution.
    if torch.jit.is_tracing() or torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export():
        return False
    size = max(weight.shape[-2:])
    is_training = torch.is_grad_enabled() and weight.requires_grad
    return size > cpu.LARGEST_FORWARD or (is_training and size >= cpu.SMALLEST_GRAD_WEIGHT)


def _autocast(x: Tensor, *others: Tensor | None) -> list[Tensor | None]:
    """Casts float operands as autocast does for ``F.conv2d``; leaves everything else to ``_check``."""
    tensors = [x, *others]
    if not isinstance(x, Tensor) or not torch.is_autocast_enabled(x.device.type):
        return tensors
    dtype = torch.get_autocast_dtype(x.device.type)
    lowered = (torch.float32, torch.bfloat16, torch.float16)
    return [t.to(dtype) if isinstance(t, Tensor) and t.dtype in lowered else t for t in tensors]


def _check(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    operands = dict(x=x, weight=weight) if bias is None else dict(x=x, weight=weight, bias=bias)
    for name, tensor in operands.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f'{name} must be a torch.Tensor, got {type(tensor).__name__}')
        if tensor.dtype != x.dtype:
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


def _pair(name: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else value
    is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not is_pair or not all(isinstance(v, int) and v >= least for v in pair):
        allowed = "'same', " if name == 'padding' else ''
        raise ValueError(f'{name} must be {allowed}an integer >= {least} or a pair of them, got {value!r}')
    return tuple(pair)


# The fast path as one operator, so that autograd, torch.compile and opcheck see it whole.


@torch.library.custom_op('mmreplk::depthwise_conv2d', mutates_args=(), device_types='cpu')
def _depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return cpu.forward(x, weight, bias)


@torch.library.custom_op('mmreplk::depthwise_conv2d_grad_input', mutates_args=(), device_types='cpu')
def _grad_input(grad_output: Tensor, weight: Tensor) -> Tensor:
    return cpu.grad_input(grad_output, weight)


@torch.library.custom_op('mmreplk::depthwise_conv2d_grad_weight', mutates_args=(), device_types='cpu')
def _grad_weight(x: Tensor, grad_output: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    return cpu.grad_weight(x, grad_output, (kernel_height, kernel_width))


@_depthwise_conv2d.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty(x.shape)


@_grad_input.register_fake
def _(grad_output: Tensor, weight: Tensor) -> Tensor:
    return grad_output.new_empty(grad_output.shape)


@_grad_weight.register_fake
def _(x: Tensor, grad_output: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    return x.new_empty(x.shape[1], 1, kernel_height, kernel_width)


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    needs_x, needs_weight, needs_bias = ctx.needs_input_grad
    return (
        _grad_input(grad_output, weight) if needs_x else None,
        _grad_weight(x, grad_output, *weight.shape[-2:]) if needs_weight else None,
        grad_output.sum((0, 2, 3)) if needs_bias else None,
    )


_depthwise_conv2d.register_autograd(_backward, setup_context=_setup_context)
