"""The three passes of a "same", stride-1 depthwise convolution on x86 CPUs, each on oneDNN's compiled kernels.

oneDNN's compiled depthwise *forward* refuses padding wider than its register block and falls back to im2col, and
PyTorch's weight gradient is slow from 5x5 on. Two other kernels of oneDNN have no such limits: the *backward-data*,
which PyTorch reaches through ``conv_transpose2d``, and the forward for channels-last tensors. With an odd kernel and
"same" padding a convolution is the transposed convolution with the flipped filter, so every pass can be written as
either. Shapes: ``x`` and ``grad_output`` ``(N, C, H, W)``, ``weight`` ``(C, 1, KH, KW)``.

bfloat16 and float16 are computed in float32, because oneDNN accumulates these kernels too coarsely in bfloat16.

Memory at the peak, results included: ``forward`` and ``grad_input`` take at most four times what input and filter take
in float32, ``grad_weight`` at most four times ``SCRATCH`` padded pixels in float32, or ``CHANNEL_BLOCK`` padded maps a
thread where these are more.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_INSTRUCTIONS = torch.backends.cpu.get_cpu_capability() if torch.backends.mkldnn.is_available() else 'none'
IS_SUPPORTED = _INSTRUCTIONS in ('AVX2', 'AVX512')
# What follows was measured with tools/measure_cpu_thresholds.py, with AVX-512 and, on the same cores, with AVX2.
# The largest kernel extent that oneDNN's forward takes.
LARGEST_FORWARD = {'AVX2': 9, 'AVX512': 13}.get(_INSTRUCTIONS, math.inf)
# The smallest from which the channels-last forward, conversions included, beats the transposed convolution.
SMALLEST_CHANNELS_LAST = {'AVX512': 25}.get(_INSTRUCTIONS, math.inf)
# The smallest whose weight gradient is faster as a transposed convolution than in PyTorch.
SMALLEST_GRAD_WEIGHT = 5 if IS_SUPPORTED else math.inf
# N * C * H * W * KH * KW from which on what is gained outweighs what calling an operator of our own costs, by whether
# gradients are wanted.
SMALLEST_WORK = {False: 4e5, True: 1.3e6}
# The largest extent for which PyTorch's weight gradient is right: that of 51x1 or 51x3 and longer ones is wrong by tens
# of per cent on maps higher than the kernel.
LARGEST_SOUND = 49
# Padded input pixels that the weight gradient takes at a time: 8 MiB, which stay in the cache.
SCRATCH = 2**21
# Channels that oneDNN's kernels compute together.
CHANNEL_BLOCK = 16

_in_float32 = torch.autocast('cpu', enabled=False)


@_in_float32
def forward(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns the convolution of ``x`` with ``weight``, plus ``bias (C,)``; contiguous, in the dtype of ``x``."""
    size, padding = max(weight.shape[-2:]), (weight.shape[2] // 2, weight.shape[3] // 2)
    dtype, groups = x.dtype, weight.shape[0]
    x, weight, bias = x.float(), weight.float(), None if bias is None else bias.float()
    if LARGEST_FORWARD < size < SMALLEST_CHANNELS_LAST:
        out = F.conv_transpose2d(x.contiguous(), weight.flip(-1, -2), bias, padding=padding, groups=groups)
    else:
        layout = torch.contiguous_format if size <= LARGEST_FORWARD else torch.channels_last
        out = F.conv2d(x.contiguous(memory_format=layout), weight, bias, padding=padding, groups=groups)
    return out.contiguous().to(dtype)


def grad_input(grad_output: Tensor, weight: Tensor) -> Tensor:
    """Returns the gradient with respect to ``x``: the convolution of ``grad_output`` with the flipped filter."""
    return forward(grad_output, weight.flip(-1, -2))


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Returns the gradient with respect to ``weight``, ``(C, 1, KH, KW)``, in the dtype of ``x``.

    Takes as many channels at a time as have ``SCRATCH`` padded input pixels, but keeps every core busy.
    """
    n, _, h, w = x.shape
    pixels = (h + kernel_size[0] - 1) * (w + kernel_size[1] - 1)
    step = CHANNEL_BLOCK * torch.get_num_threads()
    channels = math.ceil(max(1, SCRATCH // (pixels * step)) * step / n)
    grads = [_grad_weight(*part, kernel_size)
             for part in zip(x.split(channels, 1), grad_output.split(channels, 1), strict=True)]  # yapf: disable
    return grads[0] if len(grads) == 1 else torch.cat(grads)


@_in_float32
def _grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Correlates the padded input with ``grad_output``, one large filter for every image and channel."""
    (n, c, h, w), (kh, kw) = x.shape, kernel_size
    padded = F.pad(x.float(), (kw // 2, kw // 2, kh // 2, kh // 2))
    grad = F.conv_transpose2d(
        padded.reshape(1, n * c, *padded.shape[-2:]),
        grad_output.float().reshape(n * c, 1, h, w).flip(-1, -2),
        padding=(h - 1, w - 1),
        groups=n * c)
    return grad.view(n, c, 1, kh, kw).sum(0).to(x.dtype)
