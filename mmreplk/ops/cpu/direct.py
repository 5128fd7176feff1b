"""The compiled convolutions of :mod:`mmreplk.ops.cpu.compiled`, on tensors.

They take and return either memory format, in float32 or bfloat16, and accumulate in float32. A NaN or an infinity may
spread one pixel further than the filter reaches, and in a filter's gradient to all taps.
"""

import torch
from torch import Tensor

from .. import memory_format
from . import compiled, facts

Pair = tuple[int, int]


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: Pair, flip: bool, channels_last: bool,
             is_rectified: bool = False) -> Tensor:
    """Returns the "same" convolution of stride 1 with an odd filter, flipped if ``flip``.

    Args:
        x: Input ``(N, C, H, W)``, float32 or bfloat16.
        weight: Filters ``(C, 1, KH, KW)`` of the same dtype.
        bias: Added per channel, ``(C,)``.
        dilation: Step between taps, in pixels.
        flip: Whether to turn the filter by 180 degrees.
        channels_last: The memory format of the result.
        is_rectified: Whether ReLU follows.

    Returns:
        ``(N, C, H, W)`` in the dtype of ``x``.

    Raises:
        MemoryError: If there is no memory for some maps a thread.
    """
    x, x_last = _dense(x)
    weight, bias = weight.contiguous(), None if bias is None else bias.float().contiguous()
    out = memory_format.empty(x, x.shape, channels_last)
    _check(compiled.library().mmreplk_convolve(
        x.data_ptr(), weight.data_ptr(), None if bias is None else bias.data_ptr(), out.data_ptr(), *x.shape,
        *weight.shape[2:], *dilation, x.dtype == torch.bfloat16, x_last, channels_last, flip, is_rectified,
        torch.get_num_threads()))
    return out


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: Pair, dilation: Pair) -> Tensor:
    """Returns the gradient of a "same" convolution of stride 1 with respect to its filter, in float32.

    Raises:
        MemoryError: If there is no memory for some maps a thread.
    """
    (x, x_last), (grad_output, grad_last) = _dense(x), _dense(grad_output)
    by_windows = sums_along_the_map(x.shape[2:], kernel_size, dilation, x.dtype)
    taps = x.new_empty(x.shape[1], 1, *kernel_size, dtype=torch.float32)
    _check(compiled.library().mmreplk_grad_weight(
        x.data_ptr(), grad_output.data_ptr(), taps.data_ptr(), *x.shape, *kernel_size, *dilation,
        x.dtype == torch.bfloat16, x_last, grad_last, by_windows, torch.get_num_threads()))
    return taps


def sums_along_the_map(map_size: Pair, kernel_size: Pair, dilation: Pair, dtype: torch.dtype) -> bool:
    """Whether the gradient of a filter takes fewer cycles with vectors of sums along the rows of the map.

    So it does for filters so narrow, and maps so large, that vectors along the rows of the filter would be mostly
    empty. It is the one way for dilated filters.
    """
    (h, w), width = map_size, kernel_size[1]
    if max(dilation) > 1:
        return True
    if dtype == torch.bfloat16 and facts.HAS_BFLOAT16 and width > facts.LANES:
        return False  # pairs are as fast for filters of more than a vector
    return width * (h * -(-w // facts.LANES) // 2 + 8) <= h * w


def _dense(t: Tensor) -> tuple[Tensor, bool]:
    """Returns ``t`` without gaps, and whether it is channels-last."""
    channels_last = memory_format.is_channels_last(t)
    return memory_format.convert(t, channels_last), channels_last


def _check(failed: int) -> None:
    if failed:
        raise MemoryError('there is no memory for some maps of a convolution')
