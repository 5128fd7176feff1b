"""The three passes of a depthwise convolution, tap by tap: the truth that tests compare with.

Stride 1, dilation 1, "same" padding, odd kernel sizes. Shapes: ``x`` and ``grad_output`` ``(N, C, H, W)``,
``weight`` ``(C, 1, KH, KW)``. Slow on purpose: each function is a sum that can be checked by eye.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor


def _taps(x: Tensor, kernel_size: tuple[int, int]) -> Iterator[tuple[int, int, Tensor]]:
    """Yields ``ky, kx`` and ``x[..., y + ky - KH // 2, x + kx - KW // 2]`` for every output position."""
    (kh, kw), (h, w) = kernel_size, x.shape[-2:]
    padded = F.pad(x, (kw // 2, kw // 2, kh // 2, kh // 2))
    for ky in range(kh):
        for kx in range(kw):
            yield ky, kx, padded[..., ky:ky + h, kx:kx + w]


def forward(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns the convolution of ``x`` with ``weight``, plus ``bias (C,)``; shape ``(N, C, H, W)``."""
    out = torch.zeros_like(x)
    for ky, kx, shifted in _taps(x, weight.shape[-2:]):
        out += weight[:, 0, ky, kx].view(-1, 1, 1) * shifted
    return out if bias is None else out + bias.view(-1, 1, 1)


def grad_input(grad_output: Tensor, weight: Tensor) -> Tensor:
    """Returns the gradient with respect to ``x``: the convolution of ``grad_output`` with the flipped filter."""
    return forward(grad_output, weight.flip(-1, -2))


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Returns the gradient with respect to ``weight``; shape ``(C, 1, KH, KW)``."""
    grad = x.new_empty(x.shape[1], 1, *kernel_size)
    for ky, kx, shifted in _taps(x, kernel_size):
        grad[:, 0, ky, kx] = (shifted * grad_output).sum((0, 2, 3))
    return grad
