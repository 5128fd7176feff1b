"""The fast path as one operator a pass, so that autograd, ``torch.compile`` and ``opcheck`` see it whole.

``channels_last`` says which memory format every pass returns, exactly: what is asked cannot be told from the strides of
axes of size one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import cpu, memory_format


@torch.library.custom_op('mmreplk::depthwise_conv2d', mutates_args=(), device_types='cpu')
def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, stride: Sequence[int],
                     padding: Sequence[int], dilation: Sequence[int], channels_last: bool) -> Tensor:
    out = cpu.forward(x, weight, bias, *map(tuple, (stride, padding, dilation)), channels_last)
    return out.relu_() if relu else out


@torch.library.custom_op('mmreplk::depthwise_conv2d_grad_input', mutates_args=(), device_types='cpu')
def grad_input(grad_output: Tensor, weight: Tensor, size: Sequence[int], stride: Sequence[int],
               padding: Sequence[int], dilation: Sequence[int], channels_last: bool) -> Tensor:
    return cpu.grad_input(grad_output, weight, *map(tuple, (size, stride, padding, dilation)), channels_last)


@torch.library.custom_op('mmreplk::depthwise_conv2d_grad_weight', mutates_args=(), device_types='cpu')
def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: Sequence[int], stride: Sequence[int],
                padding: Sequence[int], dilation: Sequence[int], channels_last: bool) -> Tensor:
    return cpu.grad_weight(x, grad_output, *map(tuple, (kernel_size, stride, padding, dilation)), channels_last)


# Triton launches on the current device, which need not be that of the tensors. Its kernels take and return contiguous
# tensors.


@depthwise_conv2d.register_kernel('cuda')
def _(x, weight, bias, relu, stride, padding, dilation, channels_last) -> Tensor:
    from . import triton
    with torch.cuda.device_of(x):
        return memory_format.laid_out(triton.forward(x, weight, bias, relu, dilation=tuple(dilation)), channels_last)


@grad_input.register_kernel('cuda')
def _(grad_output, weight, size, stride, padding, dilation, channels_last) -> Tensor:
    from . import triton
    with torch.cuda.device_of(grad_output):
        return memory_format.laid_out(triton.grad_input(grad_output, weight, tuple(dilation)), channels_last)


@grad_weight.register_kernel('cuda')
def _(x, grad_output, kernel_size, stride, padding, dilation, channels_last) -> Tensor:
    from . import triton
    with torch.cuda.device_of(x):
        grad = triton.grad_weight(x, grad_output, tuple(kernel_size), tuple(dilation))
        return memory_format.laid_out(grad, channels_last)


@depthwise_conv2d.register_fake
def _(x, weight, bias, relu, stride, padding, dilation, channels_last) -> Tensor:
    size = [(length + 2 * p - d * (k - 1) - 1) // s + 1
            for length, k, s, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)]
    return memory_format.empty(x, (*x.shape[:2], *size), channels_last)


@grad_input.register_fake
def _(grad_output, weight, size, stride, padding, dilation, channels_last) -> Tensor:
    return memory_format.empty(grad_output, (*grad_output.shape[:2], *size), channels_last)


@grad_weight.register_fake
def _(x, grad_output, kernel_size, stride, padding, dilation, channels_last) -> Tensor:
    return memory_format.empty(x, (x.shape[1], 1, *kernel_size), channels_last)


def _setup_context(ctx, inputs, output: Tensor) -> None:
    x, weight, _, relu, *ctx.geometry = inputs
    ctx.save_for_backward(x, weight, output if relu else None)


def _backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, rectified = ctx.saved_tensors
    if rectified is not None:
        grad_output = grad_output.masked_fill(rectified <= 0, 0)
    needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
    return (
        grad_input(grad_output, weight, x.shape[2:], *ctx.geometry) if needs_x else None,
        grad_weight(x, grad_output, weight.shape[2:], *ctx.geometry) if needs_weight else None,
        grad_output.sum((0, 2, 3)) if needs_bias else None,
        *[None] * 5,
    )


depthwise_conv2d.register_autograd(_backward, setup_context=_setup_context)
