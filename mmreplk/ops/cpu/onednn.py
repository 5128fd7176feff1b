"""oneDNN's compiled depthwise kernels, as PyTorch reaches them.

On contiguous tensors, its *forward* refuses padding wider than its register block, and PyTorch falls back to im2col.
Its forward on channels-last tensors has no such limit, nor has its *backward-data*, which ``conv_transpose2d`` calls.
With an odd kernel and "same" padding, a convolution is the transposed convolution with the flipped filter, so every
pass can be written as one.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import memory_format
from . import facts

# Padded input pixels that the weight gradient takes at a time: 2 MiB, which stay in the cache and reuse their memory.
# Larger parts get new pages at each call, which cost more than the work.
SCRATCH = 2**19


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, flip: bool, transposed: bool,
             channels_last: bool) -> Tensor:
    """Returns the "same" convolution of stride 1 with an odd filter, flipped if ``flip``.

    Args:
        x: Input ``(N, C, H, W)``.
        weight: Filters ``(C, 1, KH, KW)``.
        bias: Added per channel, ``(C,)``.
        flip: Whether to turn the filter by 180 degrees.
        transposed: Whether by backward-data instead of forward.
        channels_last: The memory format to compute in.

    Returns:
        ``(N, C, H, W)``, in that format except for the strides of axes of size one.
    """
    groups, _, kh, kw = weight.shape
    if flip != transposed:
        weight = weight.flip(-1, -2)
    # Both, because PyTorch computes channels-last if either operand is.
    x, weight = (memory_format.laid_out(t, channels_last) for t in (x, weight))
    function = F.conv_transpose2d if transposed else F.conv2d
    return function(x, weight, bias, padding=(kh // 2, kw // 2), groups=groups)


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Returns the gradient of a convolution of stride 1 and dilation 1, in float32.

    Takes as many channels at a time as have ``SCRATCH`` padded input pixels, but keeps every core busy.
    """
    n, _, h, w = grad_output.shape
    pixels = (h + kernel_size[0] - 1) * (w + kernel_size[1] - 1)
    step = facts.CHANNEL_BLOCK * torch.get_num_threads()
    channels = math.ceil(max(1, SCRATCH // (pixels * step)) * step / n)
    grads = [_grad_weight(*part, kernel_size, padding)
             for part in zip(x.split(channels, 1), grad_output.split(channels, 1), strict=True)]
    return grads[0] if len(grads) == 1 else torch.cat(grads)


def _grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Correlates the padded input with ``grad_output``, one large filter for every image and channel."""
    (n, c, h, w), (kh, kw), (top, left) = grad_output.shape, kernel_size, padding
    bottom, right = h + kh - 1 - top - x.shape[2], w + kw - 1 - left - x.shape[3]
    padded = F.pad(x, (left, right, top, bottom))
    if n * c == 1:  # PyTorch does not treat one channel as depthwise: see facts.LARGEST_SOUND_ALONE.
        padded, grad_output, n = padded.expand(2, -1, -1, -1), grad_output.expand(2, -1, -1, -1), 2
        return _correlate(padded, grad_output)[:1]
    return _correlate(padded, grad_output).view(n, c, 1, kh, kw).sum(0)


def _correlate(padded: Tensor, grad_output: Tensor) -> Tensor:
    """Returns the taps ``(N * C, 1, KH, KW)``."""
    (n, c, h, w), size = grad_output.shape, padded.shape[-2:]
    taps = F.conv_transpose2d(
        padded.reshape(1, n * c, *size),
        memory_format.laid_out(grad_output.reshape(n * c, 1, h, w).flip(-1, -2), channels_last=False),
        padding=(h - 1, w - 1),
        groups=n * c)
    return taps.transpose(0, 1)
