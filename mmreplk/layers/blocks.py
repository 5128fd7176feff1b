"""The small parts of the networks besides large kernels. Shapes are ``(N, C, H, W)`` unless said otherwise."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .branches import Norm, build_bn
from .folding import BatchNorm, biased, fold_bn
from .packed import pack_convolution


class ConvBN(nn.Sequential):
    """A convolution, its BatchNorm, and a ReLU if asked, under the names ``conv``, ``bn`` and ``nonlinear``."""

    def __init__(self, conv: nn.Conv2d, norm: Norm, relu: bool = False):
        super().__init__()
        self.conv = conv
        self.bn = build_bn(norm, conv.out_channels)
        if relu:
            self.nonlinear = nn.ReLU(inplace=True)

    def fuse_bn(self, before: BatchNorm | None = None) -> None:
        """Folds the BatchNorm, and the one ``before``, for good into the convolution."""
        self.conv = biased(self.conv, *fold_bn(self.conv, self.bn, before))
        del self.bn

    def packed(self) -> nn.Module:
        """Returns the form of the folded layer for inference on CPUs."""
        return pack_convolution(self.conv, 'relu' if hasattr(self, 'nonlinear') else None)


class DropPath(nn.Module):
    """Stochastic depth: in training, zeros the branches of some images and scales up the others.

    Args:
        rate: The share of images whose branch is dropped, in [0, 1).

    Source: "Deep Networks with Stochastic Depth", arXiv 1603.09382.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0 or not self.training:
            return x
        kept = 1 - self.rate
        draw = torch.rand(x.shape[:1] + (1, ) * (x.ndim - 1), dtype=x.dtype, device=x.device)
        return x.div(kept) * (kept + draw).floor()

    def extra_repr(self) -> str:
        return f'rate={self.rate}'


class ToChannelsLast(nn.Module):
    """Maps ``(N, C, H, W)`` to ``(N, H, W, C)``, without a copy."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class ToChannelsFirst(nn.Module):
    """Maps ``(N, H, W, C)`` to ``(N, C, H, W)``, without a copy: in PyTorch's channels-last memory format."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of ``(N, C, H, W)``, in the memory format of the input.

    Args:
        channels: Channels of the input.

    Source: "A ConvNet for the 2020s", arXiv 2201.03545, Section 2.6; its epsilon is 1e-6.
    """

    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return out if x.is_contiguous(memory_format=torch.channels_last) else out.contiguous()


class GRN(nn.Module):
    """Global response normalization of ``(N, H, W, C)``: channels compete by their norms over the map.

    Args:
        channels: Channels of the input.

    Source: "ConvNeXt V2", arXiv 2301.00808, Section 3.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self._is_packed = False

    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)  # the norm of a large map may exceed the range of float16
        if self._is_packed:
            squares = x.flatten(1, 2).square()
            norm = (squares.new_ones(1, squares.shape[1]) @ squares)[:, None].to(dtype).sqrt()
        else:
            norm = torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True, dtype=dtype)
        scale = (self.gamma * (norm / (norm.mean(-1, keepdim=True) + 1e-6)) + 1).to(x.dtype)
        if self.beta is None:
            return x.mul_(scale) if self._is_packed else scale * x
        return scale * x + self.beta.to(x.dtype)

    def packed(self) -> 'GRN':
        """Returns the form for inference on CPUs, where PyTorch's norms take ten times as long as sums of squares.

        The root has no gradient at zero. Once GRN's summand is folded, the input becomes the result.
        """
        self._is_packed = True
        return self


class SqueezeExcitation(nn.Module):
    """Scales every channel by a factor that a small network computes from the means of all channels.

    Args:
        channels: Channels of the input.
        hidden: Channels between the two 1x1 convolutions.

    Source: "Squeeze-and-Excitation Networks", arXiv 1709.01507.
    """

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.down = nn.Conv2d(channels, hidden, 1)
        self.up = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.up(F.relu(self.down(means))))

    def packed(self) -> 'SqueezeExcitation':
        """Returns the form for inference on CPUs."""
        self.down, self.up = pack_convolution(self.down), pack_convolution(self.up)
        return self
