"""The three passes of a depthwise convolution on x86 CPUs, of any geometry.

With "same" padding and stride 1 they are computed by the way that costs least (:mod:`same`), all else by PyTorch in a
dtype and a memory format in which it is right (:mod:`left_to_pytorch`).

Shapes: ``x`` ``(N, C, H, W)``, ``grad_output`` ``(N, C, H', W')``, ``weight`` ``(C, 1, KH, KW)``; ``stride``,
``padding`` and ``dilation`` are pairs. float16 is computed in float32. So is bfloat16, except on CPUs with instructions
for it, by our own kernel and oneDNN's, which accumulate in float32 and round once.

Peak memory, results included: ``forward`` and ``grad_input`` take at most five times as much as input and filter in
float32. ``grad_weight`` takes at most four times ``onednn.SCRATCH`` padded pixels in float32, or ``CHANNEL_BLOCK``
padded maps a thread if these are more. Fourier transforms take eight times ``fourier.SCRATCH`` transformed pixels on
top of that, or one channel of the batch, or a map a thread, if these are more. Our own kernel (:mod:`direct`) takes
2 MiB a thread, or some rows of 32 maps if these are more, and keeps them for the next call. Conversions of dtype and
memory format take one copy of what they convert.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from .. import memory_format, tuning
from . import costs, facts, left_to_pytorch, same, ways

Pair = tuple[int, int]
IS_SUPPORTED = facts.IS_SUPPORTED
# From this N * C * H * W * KH * KW on, our passes gain more than calling an operator of our own costs, by whether the
# gradient of the filter is wanted. Used where costs are not predicted.
SMALLEST_WORK = {False: 4e5, True: 1.3e6}
# The narrowest kernel whose weight gradient is faster by a way of ours than in PyTorch.
NARROWEST_GRAD_WEIGHT = 5


def gains(x: Tensor, weight: Tensor, dtype: torch.dtype, dilation: Pair, is_same: bool,
          wanted: tuple[bool, bool]) -> bool:
    """Whether these passes are better than PyTorch's in ``dtype``: faster, or right where those may be wrong.

    ``is_same`` says that the kernel is odd, the stride 1 and the padding "same"; ``wanted`` says whether the gradients
    of ``x`` and of ``weight`` will be needed.
    """
    is_training = wanted[1]
    if dtype in facts.SLOW_DTYPES or facts.may_never_return(x, weight, dtype):
        return True
    if facts.is_wrong(x, weight, dtype, dilation, is_training):
        return dtype != torch.float64
    kh, kw = weight.shape[2:]
    if not is_same or kh * kw == 1:  # which is a product for each pixel: there is nothing to gain
        return False
    if dtype in (torch.float32, torch.bfloat16) and not torch.compiler.is_compiling():  # compiled, sizes may be symbols
        if tuning.is_enabled():  # PyTorch's ways are among those that are measured
            return True
        x_last = memory_format.is_channels_last(x)
        wants_channels_last = x_last or memory_format.is_channels_last(weight)
        problem = ways.Problem(*x.shape, kh, kw, dtype, x_last, wants_channels_last, *dilation)
        return costs.is_slow_in_pytorch(problem, *wanted)
    if x.numel() * kh * kw < SMALLEST_WORK[is_training]:
        return False
    if is_training and (kw >= NARROWEST_GRAD_WEIGHT or dilation != (1, 1)):
        return True
    return dilation[1] * (kw - 1) >= facts.WIDEST_FORWARD


def _without_autocast(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Turns autocast off in a pass: its operands have been cast before, and it must not cast them again."""

    @functools.wraps(function)
    def switched(*arguments) -> Tensor:
        if not torch.is_autocast_enabled('cpu'):
            return function(*arguments)
        with torch.autocast('cpu', enabled=False):
            return function(*arguments)

    return switched


@_without_autocast
def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair,
            channels_last: bool) -> Tensor:
    """Returns the convolution of ``x`` with ``weight``, plus ``bias (C,)``, in the dtype of ``x``."""
    if not _is_same(weight.shape[2:], stride, padding, dilation):
        out = left_to_pytorch.forward(x, weight, bias, stride, padding, dilation, channels_last)
    else:
        out = same.convolve(x, weight, bias, dilation, False, channels_last)
    return memory_format.laid_out(out, channels_last)


@_without_autocast
def grad_input(grad_output: Tensor, weight: Tensor, size: Pair, stride: Pair, padding: Pair, dilation: Pair,
               channels_last: bool) -> Tensor:
    """Returns the gradient with respect to ``x``, of ``size (H, W)``."""
    if not _is_same(weight.shape[2:], stride, padding, dilation):
        grad = left_to_pytorch.grad_input(grad_output, weight, size, stride, padding, dilation, channels_last)
    else:  # the convolution of grad_output with the flipped filter
        grad = same.convolve(grad_output, weight, None, dilation, True, channels_last)
    return memory_format.laid_out(grad, channels_last)


@_without_autocast
def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair,
                channels_last: bool) -> Tensor:
    """Returns the gradient with respect to ``weight``, in the dtype of ``x``."""
    if not _is_same(kernel_size, stride, padding, dilation):
        grad = left_to_pytorch.grad_weight(x, grad_output, kernel_size, stride, padding, dilation)
    else:
        grad = same.grad_weight(x, grad_output, kernel_size, dilation)
    return memory_format.laid_out(grad, channels_last)


def _is_same(kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> bool:
    pairs = zip(kernel_size, padding, dilation, strict=True)
    return stride == (1, 1) and all(k % 2 and p == d * (k // 2) for k, p, d in pairs)
