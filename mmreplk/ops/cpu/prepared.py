"""A depthwise convolution whose filter stays the same: what is made of the filter is made once."""

import torch
from torch import Tensor

from .. import functional, memory_format, tuning
from . import costs, direct, fourier, same
from .packed import PackedConvolution
from .ways import FOURIER, Problem, Way


class PreparedFilter:
    """The "same" convolution of stride 1 of channels-last maps with an odd filter for each channel.

    Keeps the spectrum of the filter at the last size, where Fourier transforms are fastest, or the filter as oneDNN
    lays it out.

    Args:
        weight: ``(C, 1, KH, KW)``; maps must have its dtype.
        bias: ``(C,)``; None for none.
        is_rectified: Whether ReLU follows.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, is_rectified: bool):
        self._weight = weight.detach()
        self._bias = None if bias is None else bias.detach()
        self._is_rectified = is_rectified
        self._packed: PackedConvolution | None = None
        self._spectrum: tuple[tuple[int, int], Tensor] | None = None  # and the size of its transform
        self._last: tuple[tuple, Way | None] | None = None  # the way for maps of a shape and so many threads

    def __call__(self, x: Tensor) -> Tensor:
        """Maps channels-last ``(N, C, H, W)`` to the same."""
        question, last = (x.shape, torch.get_num_threads()), self._last  # which another thread may replace
        if last is None or last[0] != question:
            last = self._last = question, self._way(x)
        way = last[1]
        if way is not None and way.kernel == 'forward' and way.channels_last and way.dtype == x.dtype:
            return self._pack()(x)
        if way is not None and way.kernel == 'direct':
            return direct.convolve(x, self._weight, self._bias, (1, 1), False, True, self._is_rectified)
        if way == FOURIER:
            out = self._by_fourier(x)
        elif way is None:
            out = functional.depthwise_conv2d(x, self._weight, self._bias)
        else:
            out = same.convolve_by(way, x, self._weight, self._bias, (1, 1), False, True)
        return out.relu_() if self._is_rectified else out

    def _way(self, x: Tensor) -> Way | None:
        """Returns how to convolve ``x``; None to leave that to the operator."""
        weight = self._weight
        with torch.no_grad():
            plan = functional.planned(x, weight, self._bias, 1, 'same', 1, None)
        if plan.backend == 'torch':
            return Way('forward', True, x.dtype)
        problem = Problem(*x.shape, *weight.shape[2:], x.dtype, True, True)
        if problem.inside()[1] != problem:
            return None

        def run(way: Way) -> Tensor:
            return same.convolve_by(way, x, weight, self._bias, (1, 1), False, True)

        if tuning.is_enabled():
            return same.chosen('convolve', problem, run)
        return costs.cheapest_prepared(problem)

    def _pack(self) -> PackedConvolution:
        if self._packed is None:
            c, _, kh, kw = self._weight.shape
            self._packed = PackedConvolution(self._weight, self._bias, (1, 1), (kh // 2, kw // 2), (1, 1), c,
                                             'relu' if self._is_rectified else None)
        return self._packed

    def _by_fourier(self, x: Tensor) -> Tensor:
        size = fourier.transform_size(x.shape, self._weight.shape[2:])
        kept = self._spectrum
        if kept is None or kept[0] != size:
            kept = self._spectrum = size, fourier.spectrum(self._weight.float(), size)
        bias = None if self._bias is None else self._bias.float()
        out = fourier.convolve(memory_format.convert(x, False).float(), self._weight, bias, kept=kept[1])
        return memory_format.convert(out.to(x.dtype), True)
