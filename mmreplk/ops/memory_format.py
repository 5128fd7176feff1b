"""Which memory format PyTorch's convolutions return, and converting to it.

A format is given as a bool, ``channels_last``. Tensors are ``(N, C, H, W)``, filters ``(C, 1, KH, KW)``.
"""

import torch
from torch import Tensor

# From so many elements of an image on, PyTorch copies a transposed matrix by blocks, three times as fast as permuting.
SMALLEST_BLOCKED = 60 * 60
# Copying by blocks runs on one core, permuting on all: with more threads, permuting is faster.
MOST_THREADS = 2


def is_channels_last(t: Tensor) -> bool:
    """Whether PyTorch takes ``t`` for channels-last, by its strides, also if it is a slice or has axes of size one."""
    if t.stride(3) < t.stride(1) or t.stride(1) == 0:
        return False
    least = 0
    for axis in (1, 3, 2):
        if t.size(axis) == 0 or t.stride(axis) < least:
            return False
        least = t.stride(axis) * t.size(axis)
    return t.size(0) > 0 and t.stride(0) >= least and least != t.stride(1)


def strides(shape: torch.Size | tuple[int, int, int, int], channels_last: bool) -> tuple[int, int, int, int]:
    """Returns the strides of a dense tensor of ``shape`` in the format."""
    _, c, h, w = shape
    return (c * h * w, 1, w * c, c) if channels_last else (c * h * w, h * w, w, 1)


def empty(like: Tensor, shape: torch.Size | tuple[int, int, int, int], channels_last: bool) -> Tensor:
    """Returns a dense tensor of ``shape`` with the dtype and device of ``like``."""
    return like.new_empty_strided(shape, strides(shape, channels_last))


def convert(t: Tensor, channels_last: bool) -> Tensor:
    """Returns ``t`` in the format, or ``t`` itself if it has it, as ``Tensor.contiguous`` does, but faster."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    other = torch.contiguous_format if channels_last else torch.channels_last
    if (t.device.type != 'cpu' or t.is_contiguous(memory_format=layout) or not t.is_contiguous(memory_format=other) or
            t.numel() < SMALLEST_BLOCKED * len(t) or torch.get_num_threads() > MOST_THREADS):
        return t.contiguous(memory_format=layout)
    out = empty(t, t.shape, channels_last)
    for image, target in zip(t, out, strict=True):
        if channels_last:
            target.permute(1, 2, 0).flatten(0, 1).copy_(image.flatten(1).t())
        else:
            target.flatten(1).copy_(image.permute(1, 2, 0).flatten(0, 1).t())
    return out


def laid_out(t: Tensor, channels_last: bool) -> Tensor:
    """Returns ``t`` with exactly the strides of :func:`empty`; shares memory with it where it has the format."""
    t, expected = convert(t, channels_last), strides(t.shape, channels_last)
    return t if t.stride() == expected else t.as_strided(t.shape, expected)
