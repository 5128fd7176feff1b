"""SLaK. Module names, and with them the state dict, are those of the official implementation."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..layers.blocks import DropPath, LayerNorm2d, ToChannelsFirst, ToChannelsLast
from ..layers.branches import Branch, MergeableConv, Norm, ReparamLargeKernelConv, check_kernel_sizes
from ..layers.folding import biased
from ..layers.packed import PackedMLP, Residual, activation_of
from . import arch
from .convnext import ConvNeXtBody

_BLOCK = re.compile(r'stages\.(\d+)\.(\d+)\.large_kernel\.')


@dataclass(frozen=True, kw_only=True)
class Arch(arch.Arch):
    """An architecture; see :class:`SLaK`."""

    UNTOLD = dict(small_kernel=None)

    large_kernel_sizes: Sequence[int]
    small_kernel: int | None = 5
    decomposed: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, 'large_kernel_sizes', self.per_stage('large_kernel_sizes'))
        for size in self.large_kernel_sizes:
            check_kernel_sizes(size, self.small_kernel)
        if self.decomposed and self.small_kernel is None:
            raise InputError('small_kernel must be a positive odd integer, the short side of decomposed kernels, '
                             'got None')

    @classmethod
    def of_weights(cls, weights: Mapping[str, Tensor]) -> 'Arch | None':
        """Reads the architecture off a SLaK's tensors; None if they are of something else.

        Merged weights of whole kernels do not show the small kernel, which is then read as None.
        """
        blocks = {tuple(map(int, match.groups())) for match in map(_BLOCK.match, weights) if match}
        stages = range(len({stage for stage, _ in blocks}))
        if not blocks:
            return None

        def filters(name: str, *others: str) -> list[tuple[int, ...]]:
            return [next((weights[n].shape[2:] for n in (f'stages.{i}.0.large_kernel.{part}.weight'
                                                         for part in (name, *others)) if n in weights), ())
                    for i in stages]

        strips, whole = filters('LoRA1.conv'), filters('lkb_origin.conv', 'lkb_reparam')
        small = filters('small_conv.conv')[0]
        try:
            return cls(
                layers=[sum(stage == i for stage, _ in blocks) for i in stages],
                channels=[weights[f'stages.{i}.0.pwconv1.weight'].shape[1] for i in stages],
                large_kernel_sizes=[shape[0] for shape in (strips if strips[0] else whole)],
                small_kernel=strips[0][1] if strips[0] else small[0] if small else None,
                decomposed=bool(strips[0]))
        except (KeyError, IndexError, InputError):
            return None

    def with_kernels(self, size: int) -> 'Arch':
        return replace(self, large_kernel_sizes=[size] * len(self.layers), small_kernel=None, decomposed=False)


Arch.NAMED = {
    name: Arch(layers=layers, channels=channels, large_kernel_sizes=(51, 49, 47, 13))
    for name, layers, channels in (
        ('T', (3, 3, 9, 3), (124, 249, 499, 998)),
        ('S', (3, 3, 27, 3), (124, 249, 499, 998)),
        ('B', (3, 3, 27, 3), (166, 332, 665, 1331)),
    )
}


class DecomposedConv(MergeableConv):
    """Two crossed strips and a small square, depthwise; the square merges into one of the strips."""

    def __init__(self, channels: int, kernel_size: int, small_kernel: int, norm: Norm):
        sizes = dict(LoRA1=(kernel_size, small_kernel), LoRA2=(small_kernel, kernel_size))
        branches = [Branch(f'{name}.conv', f'{name}.bn', size, f'{name}.conv') for name, size in sizes.items()]
        if small_kernel < kernel_size:
            branches.append(Branch('small_conv.conv', 'small_conv.bn', (small_kernel, small_kernel), 'LoRA1.conv'))
        super().__init__(channels, channels, branches, groups=channels, norm=norm)


class SLaKBlock(nn.Module):
    """Residual block: large kernel, LayerNorm and two linear layers; ``(N, channels, H, W)`` to the same."""

    def __init__(self, arch: Arch, stage: int, drop_path_rate: float, layer_scale: float, norm: Norm):
        super().__init__()
        channels, size, small = arch.channels[stage], arch.large_kernel_sizes[stage], arch.small_kernel
        if arch.decomposed:
            self.large_kernel = DecomposedConv(channels, size, small, norm)
        else:
            small = small if small is not None and small < size else None
            self.large_kernel = ReparamLargeKernelConv(
                channels, channels, size, groups=channels, small_kernel=small, norm=norm)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels, ), float(layer_scale)))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        out = self.large_kernel(x).permute(0, 2, 3, 1)
        out = self.pwconv2(self.act(self.pwconv1(self.norm(out))))
        if self.gamma is not None:
            out = out * self.gamma.to(out.dtype)
        return x + self.drop_path(out.permute(0, 3, 1, 2))

    @torch.no_grad()
    def fuse_bn(self) -> None:
        """Folds the layer scale, for good, into the last linear layer; only the branches have BatchNorms."""
        scale = self.gamma.to(torch.promote_types(self.gamma.dtype, torch.float32))
        weight, bias = self.pwconv2.weight.to(scale.dtype), self.pwconv2.bias.to(scale.dtype)
        self.pwconv2 = biased(self.pwconv2, weight * scale[:, None], bias * scale)
        self.gamma = None

    def packed(self) -> Residual:
        """Returns the form of the folded block for inference on CPUs."""
        layers = [self.large_kernel.packed(), ToChannelsLast(), self.norm, ToChannelsFirst()]
        return Residual(layers, PackedMLP(self.pwconv1, activation_of(self.act), self.pwconv2))


class SLaK(ConvNeXtBody):
    """SLaK, a ConvNeXt with kernels of up to 51x51, decomposed into strips. The sizes of feature maps are rounded down.

    Args:
        arch: ``'T'``, ``'S'``, ``'B'``, or a dict with ``large_kernel_sizes``, ``layers`` and ``channels`` (after the
            width factor), one entry per stage, and optionally ``small_kernel`` (5; the short side of the strips and the
            side of the small kernel; None for no small kernel beside whole ones) and ``decomposed`` (True; False for
            whole kernels).
        drop_path_rate: Stochastic depth of the last block; the rate rises linearly from 0 over all blocks.
        layer_scale: Initial value of the factors that scale the channels of a block's output, before it is added to
            its input.
        **kwargs: See :class:`LargeKernelBackbone`.

    Source: "More ConvNets in the 2020s: Scaling up Kernels Beyond 51x51 using Sparsity", arXiv 2207.03620;
    https://github.com/VITA-Group/SLaK.
    """

    Arch: ClassVar = Arch

    def __init__(self, arch: str | dict | Arch = 'T', in_channels: int = 3, out_indices: Sequence[int] | None = None,
                 drop_path_rate: float = 0.4, layer_scale: float = 1e-6, **kwargs):
        super().__init__(arch, in_channels, out_indices, drop_path_rate, layer_scale=layer_scale, **kwargs)

    def downsampling(self, stage: int) -> nn.Sequential:
        channels = self.arch.channels
        if stage == 0:
            return nn.Sequential(nn.Conv2d(self.in_channels, channels[0], 4, stride=4), LayerNorm2d(channels[0]))
        cin, cout = channels[stage - 1:stage + 1]
        return nn.Sequential(LayerNorm2d(cin), nn.Conv2d(cin, cout, 2, stride=2))

    def block(self, stage: int, index: int, drop_path_rate: float, norm: Norm) -> nn.Module:
        return SLaKBlock(self.arch, stage, drop_path_rate, self.layer_scale, norm)

    @staticmethod
    def form_of(names: Iterable[str]) -> str:
        names = list(names)
        is_branched = any(name.endswith(('.LoRA1.bn.weight', '.lkb_origin.bn.weight')) for name in names)
        is_merged = any(name.endswith(('.LoRA1.conv.bias', '.lkb_reparam.bias')) for name in names)
        if is_branched == is_merged:
            return 'unknown'
        is_scaled = any(name.endswith('.gamma') for name in names)
        return 'training' if is_branched else 'merged' if is_scaled else 'folded'
