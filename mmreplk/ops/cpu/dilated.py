"""The three passes of a dilated "same" convolution of stride 1.

Pixels whose rows and columns are the same modulo the dilation meet no others: such a *phase* of the map is convolved
without dilation, as one more image of the batch.
"""

import torch.nn.functional as F
from torch import Tensor

from .. import memory_format
from . import facts, left_to_pytorch, undilated

Pair = tuple[int, int]
# The largest extent of a dilated filter whose gradient is taken from that of the filter with a tap at each pixel.
LARGEST_DENSE = 11
# Kernels of up to so many taps a side are left to PyTorch where the phases would not pay for being put together:
# contiguous maps, and the gradient of the filter from this dilation on.
LARGEST_SPARSE = 3
SMALLEST_SPARSE_DILATION = 4


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: Pair, flip: bool, channels_last: bool) -> Tensor:
    """Returns the convolution of ``x`` with ``weight``, flipped if ``flip``, plus ``bias (C,)``."""
    padding = tuple(d * (k // 2) for k, d in zip(weight.shape[2:], dilation, strict=True))
    is_sparse = max(weight.shape[2:]) <= LARGEST_SPARSE and not memory_format.is_channels_last(x)
    if max(padding) <= facts.LARGEST_FORWARD // 2 or is_sparse:
        weight = weight.flip(-1, -2) if flip else weight
        return left_to_pytorch.forward(x, weight, bias, (1, 1), padding, dilation, channels_last)
    out = undilated.convolve(_phases(x, dilation), weight, bias, flip, channels_last=True)
    return _joined(out, x.shape, dilation)


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: Pair, dilation: Pair) -> Tensor:
    """Returns the gradient with respect to the filter, ``(C, 1, KH, KW)``."""
    padding = tuple(d * (k // 2) for k, d in zip(kernel_size, dilation, strict=True))
    if max(kernel_size) <= LARGEST_SPARSE and min(dilation) >= SMALLEST_SPARSE_DILATION:
        return left_to_pytorch.grad_weight(x, grad_output, kernel_size, (1, 1), padding, dilation)
    if 2 * max(padding) + 1 <= LARGEST_DENSE:
        extent = tuple(2 * p + 1 for p in padding)
        return undilated.grad_weight(x, grad_output, extent)[:, :, ::dilation[0], ::dilation[1]]
    return undilated.grad_weight(_phases(x, dilation), _phases(grad_output, dilation), kernel_size)


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
