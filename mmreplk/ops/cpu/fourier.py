"""Fourier transforms, for the largest kernels, in float32.

Sizes of transforms factor well, and are just large enough that what wraps around stays out of the result. So few
channels are transformed at a time that they stay in the cache. A NaN, an infinity and the rounding errors of the
largest values spread over the whole map.
"""

import functools
import math

import torch
from torch import Tensor

from .. import memory_format

# Transformed pixels at a time: 1 MiB, and as much again for each of the spectra.
SCRATCH = 2**18


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, flip: bool = False,
             kept: Tensor | None = None) -> Tensor:
    """Returns the "same" convolution of stride 1, with the flipped filter if ``flip``; contiguous.

    ``kept`` is the filter's :func:`spectrum` at the transform's size, if it has been computed before.
    """
    (h, w), (kh, kw) = x.shape[-2:], weight.shape[-2:]
    size, channels = transform_size(x.shape, (kh, kw)), _channels(x.shape, (kh, kw))
    out = memory_format.empty(x, x.shape, channels_last=False)
    # A product of spectra convolves in the mathematical sense, with the filter flipped.
    filters = (weight[:, 0] if flip else weight[:, 0].flip(-1, -2)) if kept is None else kept
    parts = zip(x.split(channels, 1), filters.split(channels), out.split(channels, 1), strict=True)
    for part, filters, target in parts:
        product = torch.fft.rfft2(part, size).mul_(filters if kept is not None else torch.fft.rfft2(filters, size))
        target.copy_(torch.fft.irfft2(product, size)[..., kh // 2:kh // 2 + h, kw // 2:kw // 2 + w])
    return out if bias is None else out.add_(bias.view(-1, 1, 1))


def spectrum(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the spectra of filters ``(C, 1, KH, KW)``, not to be flipped, at the size of a transform."""
    return torch.fft.rfft2(weight[:, 0].flip(-1, -2), size)


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Returns the gradient of its filter, ``(C, 1, KH, KW)``: the correlation of input and ``grad_output``."""
    (kh, kw), size, channels = kernel_size, transform_size(x.shape, kernel_size), _channels(x.shape, kernel_size)
    out = x.new_empty(x.shape[1], 1, kh, kw)
    parts = zip(x.split(channels, 1), grad_output.split(channels, 1), out.split(channels), strict=True)
    for part, grad, target in parts:
        spectrum = (torch.fft.rfft2(part, size) * torch.fft.rfft2(grad, size).conj()).sum(0)
        # Tap (0, 0) is where the two are shifted by half a kernel.
        taps = torch.fft.irfft2(spectrum, size).roll((kh // 2, kw // 2), (-2, -1))
        target.copy_(taps[:, None, :kh, :kw])
    return out


def transform_size(shape: torch.Size, kernel_size: tuple[int, int]) -> tuple[int, int]:
    """Returns the rows and columns of a transform for input ``(N, C, H, W)``."""
    return transform_length(shape[-2], kernel_size[0], 1), transform_length(shape[-1], kernel_size[1], 2)


@functools.cache
def transform_length(extent: int, taps: int, multiple: int) -> int:
    """Returns the least length, a product of 2, 3 and 5, at which nothing wraps around into "same" outputs.

    Of the ``extent + taps - 1`` outputs of a full convolution, the first and the last ``taps // 2`` are dropped, so
    these may overlap.
    """
    length = max(extent + taps // 2, taps)
    while length % multiple or not _is_smooth(length):
        length += 1
    return length


def _is_smooth(length: int) -> bool:
    for factor in (2, 3, 5):
        while length % factor == 0:
            length //= factor
    return length == 1


def _channels(shape: torch.Size, kernel_size: tuple[int, int]) -> int:
    """Returns how many channels have SCRATCH transformed pixels, or more to give every core a map."""
    maps = max(SCRATCH // math.prod(transform_size(shape, kernel_size)), torch.get_num_threads())
    return math.ceil(maps / shape[0])
