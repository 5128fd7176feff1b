"""A convolution of maps of several sizes, all resized to that of the first, without resizing them."""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import memory_format
from ..ops.cpu.packed import PackedConvolution, PackedLinear
from .packed import as_rows

# Columns of the result that are computed at a time, so that what lies between stays in the cache.
COLUMNS = 32


class PackedPyramidConv2d(nn.Module):
    """Convolves the concatenation of maps, which are resized bilinearly to the size of the first.

    Resizing is linear in each channel, and a convolution is a sum over taps of a linear layer of the channels, shifted.
    The linear layers of all taps commute with resizing: they are computed at the map's own size, where a map of a
    quarter of the pixels costs a quarter. What they give is resized, shifted and summed by two small matrices, one for
    rows and one for columns.

    Args:
        conv: Of stride 1, dilation 1 and one group, with an odd kernel and "same" padding by zeros; float32 or
            bfloat16.
        channels: How many channels each map has.
        align_corners: As in ``torch.nn.functional.interpolate``.
        is_rectified: Whether ReLU follows.
    """

    def __init__(self, conv: nn.Conv2d, channels: Sequence[int], align_corners: bool, is_rectified: bool):
        super().__init__()
        assert takes(conv) and sum(channels) == conv.in_channels
        first, *others = conv.weight.detach().split(list(channels), 1)
        self._first = PackedConvolution(first, conv.bias, conv.stride, conv.padding, conv.dilation, 1)
        # One linear layer for each row of the kernel; its channels are (KW, out_channels).
        self._rows = [[PackedLinear(row.permute(2, 0, 1).flatten(0, 1), None) for row in weight.unbind(2)]
                      for weight in others]
        self._kernel_size, self._align_corners, self._is_rectified = conv.kernel_size, align_corners, is_rectified

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        """Maps ``(N, C_i, H_i, W_i)`` to channels-last ``(N, out_channels, H_0, W_0)``."""
        out = self._first(memory_format.convert(first, True))
        others = [memory_format.convert(other, True) for other in others]
        for i, image in enumerate(out):
            self._add(image.permute(1, 2, 0), [other[i:i + 1] for other in others])
        return out.relu_() if self._is_rectified else out

    def _add(self, out: Tensor, maps: Sequence[Tensor]) -> None:
        """Adds to ``out (H, W, out_channels)`` what the maps ``(1, C, h, w)`` contribute."""
        height, width, channels = out.shape
        options = self._align_corners, out.dtype
        kh, kw = self._kernel_size
        down = torch.cat([_shifted(m.shape[2], height, kh, *options).flatten(1) for m in maps], 1)  # (H, kh * h ...)
        columns = -(-width // -(-width // COLUMNS))
        taken = out.new_empty(down.shape[1], columns, channels)
        for left in range(0, width, columns):
            right, above = min(left + columns, width), 0
            own = taken if right - left == columns else taken.new_empty(len(taken), right - left, channels)
            for m, layers in zip(maps, self._rows, strict=True):
                across = _shifted(m.shape[3], width, kw, *options)[left:right]  # (columns, kw, w)
                begin, end = _support(across)
                across = across[..., begin:end].transpose(1, 2).flatten(1).expand(m.shape[2], -1, -1)
                rows = as_rows(m[..., begin:end])
                for layer in layers:
                    taps = layer(rows).view(m.shape[2], -1, channels)  # (h, w * kw, out_channels)
                    torch.bmm(across, taps, out=own[above:above + len(taps)])
                    above += len(taps)
            part = out[:, left:right]
            part += (down @ own.flatten(1)).view_as(part)


def takes(conv: nn.Conv2d) -> bool:
    """Whether :class:`PackedPyramidConv2d` can compute ``conv``."""
    same = tuple(k // 2 for k in conv.kernel_size)
    return (conv.padding_mode == 'zeros' and conv.stride == conv.dilation == (1, 1) and conv.groups == 1 and
            all(k % 2 for k in conv.kernel_size) and conv.padding in (same, 'same'))


@functools.lru_cache(64)
def _shifted(size: int, target: int, taps: int, align_corners: bool, dtype: torch.dtype) -> Tensor:
    """Returns matrices that resize a line to ``target`` and shift it to each tap, ``(target, taps, size)``."""
    line = torch.eye(size, dtype=torch.float64)[None, :, None]  # as many channels as places
    resized = F.interpolate(line, (1, target), mode='bilinear', align_corners=align_corners)[0, :, 0]
    padded = F.pad(resized, (taps // 2, taps // 2))
    return padded.unfold(1, target, 1).permute(2, 1, 0).to(dtype).contiguous()


def _support(matrix: Tensor) -> tuple[int, int]:
    """Returns the first place of the last axis at which a matrix is not zero, and the one after the last."""
    used = matrix.abs().sum((0, 1)).nonzero().flatten()
    return int(used[0]), int(used[-1]) + 1
