"""Adaptive average pooling for maps of any size, made of operations that ONNX has."""

import torch
from torch import Tensor, nn


class MatrixPool2d(nn.Module):
    """``nn.AdaptiveAvgPool2d`` as two matrix products.

    ONNX pools with windows of one size, which the bins of an adaptive pooling do not have unless they divide the map. A
    bin averages rows ``floor(i H / S)`` to ``ceil((i + 1) H / S)`` and columns likewise: each direction is a matrix of
    zeros and reciprocals, which a graph computes from the size of its input.

    Args:
        output_size: Height and width of the result, ``(S, S')``.
    """

    def __init__(self, output_size: tuple[int, int]):
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """Averages ``(N, C, H, W)`` to ``(N, C, S, S')``."""
        rows, columns = (_bins(size, count, x) for size, count in zip(x.shape[2:], self.output_size, strict=True))
        return rows @ x @ columns.mT


def use_matrix_pools(model: nn.Module) -> None:
    """Replaces every ``nn.AdaptiveAvgPool2d`` of several bins in ``model``."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                size = child.output_size
                size = (size, size) if isinstance(size, int) else tuple(size)
                if size != (1, 1) and None not in size:
                    setattr(parent, name, MatrixPool2d(size))


def _bins(size: int, count: int, like: Tensor) -> Tensor:
    """Returns the matrix ``(count, size)`` that averages ``size`` values to ``count``; each row sums to 1."""
    bins, places = torch.arange(count, device=like.device)[:, None], torch.arange(size, device=like.device)
    # At or after floor(i H / S), and before ceil((i + 1) H / S), without a division.
    inside = ((places + 1) * count > bins * size) & (places * count < (bins + 1) * size)
    return inside.to(like.dtype) / inside.sum(1, keepdim=True).to(like.dtype)
