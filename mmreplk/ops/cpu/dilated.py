"""The three passes of a dilated "same" convolution of stride 1.

Pixels whose rows and columns are the same modulo the dilation meet no others: such a *phase* of the map is convolved
without dilation, as one more image of the batch.
"""

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import memory_format
from . import costs, facts, left_to_pytorch, onednn, undilated
from .costs import Problem

Pair = tuple[int, int]
# Kernels of up to so many taps a side are left to PyTorch on contiguous maps, where the phases would not pay for being
# put together.
LARGEST_SPARSE = 3
# Milliseconds that PyTorch's gradient of the filter takes, for a call, a pixel and a product of a tap, by whether it is
# computed channels-last, for which the map must not be smaller than the kernel. Measured as those of prices.py.
PYTORCH = {False: (0.04, 4e-7, 5.2e-7), True: (0.04, 3.4e-6, 1.5e-7)}
# How many times longer than predicted the undilated gradient takes, of phases and of a filter with a tap at each pixel:
# what it works on was not in the cache. And what a pixel takes that has to change its format for it.
UNCACHED = {'phases': 2.2, 'dense': 1.3}
CHANGING = {'phases': 3e-6, 'dense': 1.5e-6}


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: Pair, flip: bool, channels_last: bool) -> Tensor:
    """Returns the convolution of ``x`` with ``weight``, flipped if ``flip``, plus ``bias (C,)``."""
    padding = tuple(d * (k // 2) for k, d in zip(weight.shape[2:], dilation, strict=True))
    is_sparse = max(weight.shape[2:]) <= LARGEST_SPARSE and not memory_format.is_channels_last(x)
    if padding[1] <= facts.WIDEST_FORWARD // 2 or is_sparse:
        weight = weight.flip(-1, -2) if flip else weight
        return left_to_pytorch.forward(x, weight, bias, (1, 1), padding, dilation, channels_last)
    out = undilated.convolve(_phases(x, dilation), weight, bias, flip, channels_last=True)
    return _joined(out, x.shape, dilation)


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: Pair, dilation: Pair) -> Tensor:
    """Returns the gradient with respect to the filter, ``(C, 1, KH, KW)``."""
    padding = tuple(d * (k // 2) for k, d in zip(kernel_size, dilation, strict=True))
    problem = Problem(*x.shape, *kernel_size, x.dtype, memory_format.is_channels_last(x), False)
    way = cheapest_grad_weight(problem, dilation)
    if way == 'pytorch':
        return left_to_pytorch.grad_weight(x, grad_output, kernel_size, (1, 1), padding, dilation)
    n, _, h, w = x.shape
    channels = facts.CHANNEL_BLOCK * max(torch.get_num_threads(), onednn.SCRATCH // (n * h * w * facts.CHANNEL_BLOCK))
    grads = []
    for part, grad in zip(x.split(channels, 1), grad_output.split(channels, 1), strict=True):
        if way == 'dense':
            extent = tuple(2 * p + 1 for p in padding)
            grads.append(undilated.grad_weight(part, grad, extent)[:, :, ::dilation[0], ::dilation[1]])
        else:
            grads.append(undilated.grad_weight(_phases(part, dilation), _phases(grad, dilation), kernel_size))
    return torch.cat(grads)


@functools.lru_cache(1024)
def cheapest_grad_weight(problem: Problem, dilation: Pair) -> str:
    """Returns how to compute the gradient of the filter.

    ``'pytorch'``; ``'phases'``; or ``'dense'``, to take it from that of the filter that has a tap at each pixel.
    """
    predicted = {way: _cost(way, problem, dilation) for way in ('pytorch', 'phases', 'dense')}
    return min(predicted, key=predicted.get)


def _cost(way: str, problem: Problem, dilation: Pair) -> float:
    n, c, h, w, kh, kw = problem[:6]
    (dy, dx), pixels = dilation, n * c * h * w
    extent = dy * (kh - 1) + 1, dx * (kw - 1) + 1
    if way == 'pytorch':
        if problem.dtype in facts.SLOW_DTYPES or max(kh, kw) > facts.LARGEST_SOUND:
            return math.inf
        in_channels_last = problem.channels_last and problem.dtype == torch.float32
        call, pixel, product = PYTORCH[in_channels_last and extent[0] <= h and extent[1] <= w]
        laid_out = 2 * costs.laying_out(pixels, problem.dtype) if problem.channels_last and not in_channels_last else 0
        return call + pixel * pixels + product * pixels * kh * kw + laid_out
    if way == 'dense':
        same = problem._replace(kh=min(extent[0], 2 * h - 1), kw=min(extent[1], 2 * w - 1))
    else:
        rows, columns = -(-h // dy), -(-w // dx)
        kh, kw = min(kh, 2 * rows - 1), min(kw, 2 * columns - 1)
        same = Problem(n * dy * dx, c, rows, columns, kh, kw, problem.dtype, True, False)
    own = costs.cost('grad_weight', same, costs.cheapest('grad_weight', same))
    return UNCACHED[way] * own + 2 * CHANGING[way] * pixels * (problem.channels_last == (way == 'dense'))


def _phases(x: Tensor, dilation: Pair) -> Tensor:
    """Returns ``(N, C, H, W)`` as ``(N * DY * DX, C, H / DY, W / DX)``, padded by zeros and channels-last."""
    (n, c, h, w), (dy, dx) = x.shape, dilation
    x = memory_format.laid_out(x, channels_last=True).permute(0, 2, 3, 1)
    x = F.pad(x, (0, 0, 0, -w % dx, 0, -h % dy))
    x = x.reshape(n, -(-h // dy), dy, -(-w // dx), dx, c).permute(0, 2, 4, 1, 3, 5)
    return x.flatten(0, 2).permute(0, 3, 1, 2)


def _joined(phases: Tensor, shape: tuple[int, int, int, int], dilation: Pair) -> Tensor:
    """Undoes :func:`_phases`; ``shape`` is ``(N, C, H, W)``."""
    (n, c, h, w), (dy, dx), (rows, columns) = shape, dilation, phases.shape[2:]
    x = phases.permute(0, 2, 3, 1).unflatten(0, (n, dy, dx)).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(n, rows * dy, columns * dx, c)[:, :h, :w].permute(0, 3, 1, 2)
