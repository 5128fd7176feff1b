"""MobileNetV2 with large kernels: the network of the paper's small experiments."""

from collections.abc import Sequence
from itertools import pairwise

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..errors import InputError
from ..layers import ReparamLargeKernelConv
from .backbones import norm_of

_EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
_CHANNELS = (16, 24, 32, 64, 96, 160, 320)
_BLOCKS = (1, 2, 3, 4, 3, 3, 1)
_STRIDES = (1, 2, 2, 2, 1, 2, 1)
_STEM_CHANNELS = 32


class InvertedResidual(nn.Module):
    """Expands channels, filters each by a depthwise convolution, projects; adds the input where the shape allows.

    ``(N, in_channels, H, W)`` to ``(N, out_channels, H / stride, W / stride)``, sizes rounded up.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int, kernel_size: int,
                 small_kernel: int | None, shortcut: bool, norm_cfg: dict):
        super().__init__()
        width = in_channels * expansion
        relu6 = dict(type='ReLU6')
        self.shortcut = shortcut and stride == 1 and in_channels == out_channels
        self.expand = nn.Identity() if expansion == 1 else ConvModule(
            in_channels, width, 1, norm_cfg=norm_cfg, act_cfg=relu6)
        self.large_kernel = ReparamLargeKernelConv(
            width, width, kernel_size, stride, groups=width, small_kernel=small_kernel, norm=norm_of(norm_cfg))
        self.activation = nn.ReLU6(inplace=True)
        self.project = ConvModule(width, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None)

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.activation(self.large_kernel(self.expand(x))))
        return x + out if self.shortcut else out


@MODELS.register_module()
class LargeKernelMobileNetV2(BaseModule):
    """MobileNetV2 whose depthwise kernels have any size, with or without small ones beside them and shortcuts.

    With ``kernel_sizes=3`` it is the MobileNetV2 of MMSegmentation and MMDetection, with other names for its tensors.

    Args:
        kernel_sizes: Extent of the depthwise kernels, odd: one for all, or one for each of the seven stages.
        small_kernel: Extent of the small kernel beside each larger one, merged in evaluation; None for none.
        shortcuts: Whether blocks that keep the shape add their input.
        widen_factor: Factor of all channel counts, which are rounded to multiples of 8.
        out_indices: Stages whose features are returned, ascending. Stages 1, 2, 4 and 6 are the last at strides 4, 8,
            16 and 32.
        norm_cfg: MMCV's description of the BatchNorm.
        init_cfg: MMEngine's initialization.

    Raises:
        InputError: A ValueError that names the argument, what it must be, and what it was.

    Source: "MobileNetV2: Inverted Residuals and Linear Bottlenecks", arXiv 1801.04381; its large kernels: "Scaling Up
    Your Kernels to 31x31", arXiv 2203.06717, Section 3, Guidelines 2, 3 and 5.
    """

    def __init__(self,
                 kernel_sizes: int | Sequence[int] = 3,
                 small_kernel: int | None = None,
                 shortcuts: bool = True,
                 widen_factor: float = 1.0,
                 out_indices: Sequence[int] = (1, 2, 4, 6),
                 norm_cfg: dict | None = None,
                 init_cfg: dict | list[dict] | None = None):
        super().__init__(init_cfg)
        stages = len(_CHANNELS)
        sizes = [kernel_sizes] * stages if isinstance(kernel_sizes, int) else list(kernel_sizes)
        if len(sizes) != stages:
            raise InputError(f'kernel_sizes must be one integer or {stages}, one a stage, got {kernel_sizes!r}')
        if not out_indices or list(out_indices) != sorted(set(out_indices) & set(range(stages))):
            raise InputError(f'out_indices must be ascending stages from 0 to {stages - 1}, got {out_indices!r}')
        if widen_factor <= 0:
            raise InputError(f'widen_factor must be above 0, got {widen_factor!r}')
        self.out_indices = tuple(out_indices)
        norm_cfg = norm_cfg or dict(type='BN')
        channels = [_rounded(count * widen_factor) for count in (_STEM_CHANNELS, *_CHANNELS)]
        self.stem = ConvModule(
            3, channels[0], 3, stride=2, padding=1, norm_cfg=norm_cfg, act_cfg=dict(type='ReLU6'))
        self.stages = nn.ModuleList()
        for (cin, cout), size, expansion, blocks, stride in zip(
                pairwise(channels), sizes, _EXPANSIONS, _BLOCKS, _STRIDES, strict=True):
            small = small_kernel if small_kernel is not None and small_kernel < size else None
            self.stages.append(
                nn.Sequential(*(InvertedResidual(cin if i == 0 else cout, cout, stride if i == 0 else 1, expansion,
                                                 size, small, shortcuts, norm_cfg) for i in range(blocks))))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps images ``(N, 3, H, W)`` to the features ``(N, C, H / stride, W / stride)`` of the ``out_indices``."""
        x, outs = self.stem(x), []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                outs.append(x)
        return tuple(outs)


def _rounded(channels: float) -> int:
    """Rounds to a multiple of 8, but not down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
