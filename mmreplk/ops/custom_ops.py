"""The fast path for autograd, and for compilers, dispatch modes and transforms.

The latter see each pass as one operator of PyTorch. Calling that takes longer than convolving a small map, so the
passes are called directly if no compiler, dispatch mode or transform is active.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import memory_format, passes

DEVICES = ('cpu', 'cuda')
# PyTorch's own functions that tell whether a dispatch mode or a transform is active.
PRIVATE = '_len_torch_dispatch_stack', '_are_functorch_transforms_active'


@torch.library.custom_op('mmreplk::depthwise_conv2d', mutates_args=(), device_types=DEVICES)
def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, stride: Sequence[int],
                     padding: Sequence[int], dilation: Sequence[int], channels_last: bool) -> Tensor:
    return passes.forward(x, weight, bias, relu, *map(tuple, (stride, padding, dilation)), channels_last)


@torch.library.custom_op('mmreplk::depthwise_conv2d_grad_input', mutates_args=(), device_types=DEVICES)
def grad_input(grad_output: Tensor, weight: Tensor, size: Sequence[int], stride: Sequence[int],
               padding: Sequence[int], dilation: Sequence[int], channels_last: bool) -> Tensor:
    return passes.grad_input(grad_output, weight, *map(tuple, (size, stride, padding, dilation)), channels_last)


@torch.library.custom_op('mmreplk::depthwise_conv2d_grad_weight', mutates_args=(), device_types=DEVICES)
def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: Sequence[int], stride: Sequence[int],
                padding: Sequence[int], dilation: Sequence[int], channels_last: bool) -> Tensor:
    return passes.grad_weight(x, grad_output, *map(tuple, (kernel_size, stride, padding, dilation)), channels_last)


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


def _gradients(ctx, grad_output: Tensor, grad_input: Callable, grad_weight: Callable) -> tuple[Tensor | None, ...]:
    """Computes the gradients that are needed."""
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


def _backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    return _gradients(ctx, grad_output, grad_input, grad_weight)


depthwise_conv2d.register_autograd(_backward, setup_context=_setup_context)


class DepthwiseConv2d(torch.autograd.Function):
    """The same without an operator of PyTorch."""

    @staticmethod
    def forward(ctx, *inputs: Any) -> Tensor:
        out = passes.forward(*inputs)
        _setup_context(ctx, inputs, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        return _gradients(ctx, grad_output, passes.grad_input, passes.grad_weight)


def is_watched() -> bool:
    """Whether a compiler, a tracer, a dispatch mode such as FlopCounterMode, or a transform of torch.func is active."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or any(map(_says, PRIVATE))


def _says(name: str) -> bool:
    """Asks a private function of PyTorch; True where it is not as it is today, since the operators are always right."""
    try:
        return bool(getattr(torch._C, name)())
    except (AttributeError, TypeError):
        return True
