"""The three passes of any geometry by PyTorch's own functions, in a dtype and a memory format in which they are right.

``stride``, ``padding`` and ``dilation`` are pairs. Results have the dtype of the operands.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import memory_format
from . import facts, onednn

Pair = tuple[int, int]


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair,
            channels_last: bool) -> Tensor:
    """Returns the convolution, computed channels-last if ``channels_last``, unless that may never return."""
    if len(weight) == 1 and max(weight.shape[2:]) > facts.LARGEST_SOUND_ALONE:
        x, weight = x.expand(-1, 2, -1, -1), weight.expand(2, -1, -1, -1)
        bias = None if bias is None else bias.expand(2)
        return forward(x, weight, bias, stride, padding, dilation, channels_last)[:, :1]
    dtype, (x, weight) = x.dtype, _prepared(x, weight, channels_last)
    bias = None if bias is None else bias.to(x.dtype)
    return F.conv2d(x, weight, bias, stride, padding, dilation, len(weight)).to(dtype)


def grad_input(grad_output: Tensor, weight: Tensor, size: Pair, stride: Pair, padding: Pair, dilation: Pair,
               channels_last: bool) -> Tensor:
    """Returns the gradient with respect to the input, whose rows and columns are ``size``."""
    if len(weight) == 1 and max(weight.shape[2:]) > facts.LARGEST_SOUND_ALONE:
        grad_output, weight = grad_output.expand(-1, 2, -1, -1), weight.expand(2, -1, -1, -1)
        return grad_input(grad_output, weight, size, stride, padding, dilation, channels_last)[:, :1]
    dtype, (grad_output, weight) = grad_output.dtype, _prepared(grad_output, weight, channels_last)
    x = memory_format.empty(grad_output, (*grad_output.shape[:2], *size), channels_last)
    return _backward(x, grad_output, weight, stride, padding, dilation, wants_weight=False).to(dtype)


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: Pair, stride: Pair, padding: Pair,
                dilation: Pair) -> Tensor:
    """Returns the gradient with respect to the filter, ``(C, 1, KH, KW)``."""
    dtype = x.dtype
    if max(kernel_size) > (facts.LARGEST_SOUND if x.shape[1] > 1 else facts.LARGEST_SOUND_ALONE):
        return _dense_grad_weight(x.float(), grad_output.float(), kernel_size, stride, padding, dilation).to(dtype)
    x, grad_output = _in_sound_dtype(x, grad_output)
    is_sound = x.dtype == torch.float32 or stride == dilation == (1, 1)  # see facts.is_wrong
    channels_last = is_sound and memory_format.is_channels_last(x)
    x, grad_output = (memory_format.laid_out(t, channels_last) for t in (x, grad_output))
    weight = x.new_empty(x.shape[1], 1, *kernel_size)
    return _backward(x, grad_output, weight, stride, padding, dilation, wants_weight=True).to(dtype)


def _dense_grad_weight(x: Tensor, grad_output: Tensor, kernel_size: Pair, stride: Pair, padding: Pair,
                       dilation: Pair) -> Tensor:
    """Computes the gradient of a filter with a tap at every pixel of its extent, and takes the taps that are wanted."""
    (n, c, *size), (sy, sx) = grad_output.shape, stride
    if stride != (1, 1):
        spread = grad_output.new_zeros(n, c, *((length - 1) * s + 1 for length, s in zip(size, stride, strict=True)))
        spread[:, :, ::sy, ::sx] = grad_output
        grad_output = spread
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True))
    taps = onednn.grad_weight(x, grad_output, extent, padding)
    return taps[:, :, ::dilation[0], ::dilation[1]].contiguous()


def _in_sound_dtype(*tensors: Tensor) -> list[Tensor]:
    """Casts dtypes in which PyTorch is slow on this CPU, and rounds on the way, to float32."""
    return [t.float() if t.dtype in facts.SLOW_DTYPES else t for t in tensors]


def _prepared(x: Tensor, weight: Tensor, channels_last: bool) -> list[Tensor]:
    tensors = _in_sound_dtype(x, weight)
    never_returns = tensors[0].dtype == torch.bfloat16 and weight.shape[3] > facts.WIDEST_FORWARD and (
        x.shape[1] <= facts.CHANNEL_BLOCK)
    return [memory_format.laid_out(t, channels_last and not never_returns) for t in tensors]


def _backward(x: Tensor, grad_output: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair,
              wants_weight: bool) -> Tensor:
    wanted = [not wants_weight, wants_weight, False]
    grads = torch.ops.aten.convolution_backward(grad_output, x, weight, None, stride, padding, dilation, False, (0, 0),
                                                len(weight), wanted)
    return grads[int(wants_weight)]
