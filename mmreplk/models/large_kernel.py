"""The re-parameterized large-kernel convolution."""

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError
from ..ops import depthwise_conv2d
from .folding import biased, fold_bn


class LargeKernelConv2d(nn.Conv2d):
    """An ``nn.Conv2d`` that runs on :func:`mmreplk.ops.depthwise_conv2d` wherever it is depthwise."""

    def forward(self, x: Tensor, activation: str | None = None) -> Tensor:
        """Maps ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``, through ``'relu'`` if asked."""
        if self.groups == self.in_channels == self.out_channels and self.padding_mode == 'zeros':
            return depthwise_conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, activation)
        out = self._conv_forward(x, self.weight, self.bias)
        return out if activation is None else out.relu()


def build_bn(norm_cfg: dict, channels: int) -> _BatchNorm:
    """Builds the norm layer that ``norm_cfg`` describes, as MMCV does.

    Raises:
        InputError: If it is not a BatchNorm with running statistics, and so could not be folded.
    """
    norm = build_norm_layer(norm_cfg, channels)[1]
    if not isinstance(norm, _BatchNorm) or not norm.track_running_stats:
        raise InputError("norm_cfg must describe a BatchNorm with running statistics ('BN', 'SyncBN', ...), which "
                         f'the merging of kernels needs, got {norm_cfg}')
    return norm


def conv_bn(conv: nn.Conv2d, norm_cfg: dict, relu: bool = False) -> nn.Sequential:
    """Returns ``conv`` and its BatchNorm, and a ReLU if asked, under the official names."""
    layers = nn.Sequential()
    layers.add_module('conv', conv)
    layers.add_module('bn', build_bn(norm_cfg, conv.out_channels))
    if relu:
        layers.add_module('nonlinear', nn.ReLU(inplace=True))
    return layers


class ReparamLargeKernelConv(nn.Module):
    """A large convolution with a parallel small one, each with its BatchNorm, which merge into a single large one.

    The small kernel helps the large one to learn small-scale patterns and costs nothing afterwards: convolution is
    linear, so the small filter, zero-padded to the large size, adds to the large filter.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Extent of the large kernel, odd; the padding is ``kernel_size // 2``.
        stride: Stride of both convolutions.
        groups: Groups of both convolutions; equal to both channel counts for a depthwise one.
        small_kernel: Extent of the small kernel, odd and at most ``kernel_size``; None for no small branch.
        activation: ``'relu'`` to end with ReLU, which the merged form computes in the same pass; None for none.
        norm_cfg: MMCV's description of the BatchNorm.
        deploy: Build the merged form, a single biased convolution.

    Raises:
        InputError: If a kernel size is even, or the small one is larger than the large one.

    Source: "Scaling Up Your Kernels to 31x31", arXiv 2203.06717, Section 3.2, Guideline 3.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: int,
                 stride: int = 1,
                 groups: int = 1,
                 small_kernel: int | None = None,
                 activation: str | None = None,
                 norm_cfg: dict | None = None,
                 deploy: bool = False):
        super().__init__()
        for name, size in dict(kernel_size=kernel_size, small_kernel=small_kernel).items():
            if size is not None and (not isinstance(size, int) or size < 1 or size % 2 == 0):
                raise InputError(f'{name} must be a positive odd integer, got {size!r}')
        if small_kernel is not None and small_kernel > kernel_size:
            raise InputError(f'small_kernel must be at most the large kernel_size, {kernel_size}, got {small_kernel}')
        if activation not in (None, 'relu'):
            raise InputError(f"activation must be None or 'relu', got {activation!r}")
        self.activation = activation
        norm_cfg = norm_cfg or dict(type='BN')

        def conv(size: int, bias: bool = False) -> LargeKernelConv2d:
            return LargeKernelConv2d(in_channels, out_channels, size, stride, size // 2, groups=groups, bias=bias)

        if deploy:
            self.lkb_reparam = conv(kernel_size, bias=True)
        else:
            self.lkb_origin = conv_bn(conv(kernel_size), norm_cfg)
            if small_kernel is not None:
                self.small_conv = conv_bn(conv(small_kernel), norm_cfg)

    @property
    def deploy(self) -> bool:
        """Whether the layer is, for good, in its merged form."""
        return hasattr(self, 'lkb_reparam')

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``, the size kept at stride 1."""
        if self.deploy:
            return self.lkb_reparam(x, self.activation)
        out = self.lkb_origin(x)
        if hasattr(self, 'small_conv'):
            out = out + self.small_conv(x)
        return out if self.activation is None else out.relu()

    @torch.no_grad()
    def equivalent_kernel_bias(self) -> tuple[Tensor, Tensor]:
        """Returns weight and bias of the merged convolution, in float32 or, of a float64 layer, in float64.

        Valid in evaluation mode, where BatchNorm applies its running statistics.
        """
        if self.deploy:
            return fold_bn(self.lkb_reparam, None)
        large = self.lkb_origin.conv
        weight, bias = fold_bn(large, self.lkb_origin.bn)
        if hasattr(self, 'small_conv'):
            small_weight, small_bias = fold_bn(self.small_conv.conv, self.small_conv.bn)
            margin = (large.kernel_size[0] - self.small_conv.conv.kernel_size[0]) // 2
            weight, bias = weight + F.pad(small_weight, [margin] * 4), bias + small_bias
        return weight, bias

    def reparameterize(self) -> None:
        """Replaces the branches, for good, by the merged convolution; a second call does nothing."""
        if self.deploy:
            return
        self.lkb_reparam = biased(self.lkb_origin.conv, *self.equivalent_kernel_bias())
        del self.lkb_origin
        if hasattr(self, 'small_conv'):
            del self.small_conv
