"""RepLKNet. Module names, and with them the state dict, are those of the official implementation."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from ..errors import InputError
from ..layers.blocks import ConvBN, DropPath
from ..layers.branches import Norm, ReparamLargeKernelConv, build_bn
from ..layers.packed import PackedMLP, Residual, activation_of
from . import arch
from .base import LargeKernelBackbone

_BLOCK = re.compile(r'stages\.(\d+)\.blocks\.(\d+)\.')
_BLOCKS_A_LAYER = 4  # two RepLKBlocks and their two ConvFFNs


@dataclass(frozen=True, kw_only=True)
class Arch(arch.Arch):
    """An architecture, one entry per stage in each of the first three fields; see :class:`RepLKNet`."""

    UNTOLD = dict(small_kernel=None, norm_intermediate_features=False)

    large_kernel_sizes: Sequence[int]
    small_kernel: int | None = None
    dw_ratio: float = 1
    ffn_ratio: float = 4
    norm_intermediate_features: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, 'large_kernel_sizes', self.per_stage('large_kernel_sizes'))
        if not all(k % 2 for k in self.large_kernel_sizes):
            raise InputError(f'large_kernel_sizes must be odd, got {self.large_kernel_sizes}')
        small = self.small_kernel
        if small is not None and (not isinstance(small, int) or small % 2 == 0 or
                                  not 0 < small <= min(self.large_kernel_sizes)):
            raise InputError('small_kernel must be None or odd and at most the smallest of large_kernel_sizes '
                             f'{self.large_kernel_sizes}, got {small!r}')
        for name in ('dw_ratio', 'ffn_ratio'):
            ratio = getattr(self, name)
            if not isinstance(ratio, (int, float)) or int(min(self.channels) * ratio) < 1:
                raise InputError(f'{name} must be a positive number that leaves at least one channel, got {ratio!r}')

    @classmethod
    def of_weights(cls, weights: Mapping[str, Tensor]) -> 'Arch | None':
        """Reads the architecture off a RepLKNet's tensors; None if they are of something else.

        Merged weights do not show the small kernel, and pre-trained ones do not show whether features are normalized;
        these are then read as None and False.
        """
        blocks = {tuple(map(int, match.groups())) for match in map(_BLOCK.match, weights) if match}
        stages = range(len({stage for stage, _ in blocks}))
        if not blocks:
            return None

        def shapes(*names: str) -> list[tuple[int, ...]]:
            return [next(weights[n].shape for n in (f'stages.{i}.blocks.{name}.weight' for name in names)
                         if n in weights) for i in stages]

        try:
            large = shapes('0.large_kernel.lkb_origin.conv', '0.large_kernel.lkb_reparam')
            small = weights.get('stages.0.blocks.0.large_kernel.small_conv.conv.weight')
            widened, expanded = shapes('0.pw1.conv'), shapes('1.pw1.conv')
            return cls(
                layers=[sum(stage == i for stage, _ in blocks) // 2 for i in stages],
                channels=[shape[1] for shape in widened],
                large_kernel_sizes=[shape[-1] for shape in large],
                small_kernel=None if small is None else small.shape[-1],
                dw_ratio=max(shape[0] / shape[1] for shape in widened),
                ffn_ratio=max(shape[0] / shape[1] for shape in expanded),
                norm_intermediate_features=any(f'stages.{i}.norm.weight' in weights for i in stages))
        except (StopIteration, IndexError, InputError):
            return None

    def with_kernels(self, size: int) -> 'Arch':
        return replace(self, large_kernel_sizes=[size] * len(self.layers), small_kernel=None)


Arch.NAMED = {
    '31B': Arch(layers=(2, 2, 18, 2), channels=(128, 256, 512, 1024), large_kernel_sizes=(31, 29, 27, 13),
                small_kernel=5),
    '31L': Arch(layers=(2, 2, 18, 2), channels=(192, 384, 768, 1536), large_kernel_sizes=(31, 29, 27, 13),
                small_kernel=5),
    'XL': Arch(layers=(2, 2, 18, 2), channels=(256, 512, 1024, 2048), large_kernel_sizes=(27, 27, 27, 13),
               dw_ratio=1.5, norm_intermediate_features=True),
}


class RepLKBlock(nn.Module):
    """Pre-norm residual block around a large depthwise convolution; ``(N, in_channels, H, W)`` to the same."""

    def __init__(self, in_channels: int, dw_channels: int, kernel_size: int, small_kernel: int | None,
                 drop_path_rate: float, norm: Norm):
        super().__init__()
        self.pw1 = ConvBN(nn.Conv2d(in_channels, dw_channels, 1, bias=False), norm, relu=True)
        self.pw2 = ConvBN(nn.Conv2d(dw_channels, in_channels, 1, bias=False), norm)
        self.large_kernel = ReparamLargeKernelConv(
            dw_channels,
            dw_channels,
            kernel_size,
            groups=dw_channels,
            small_kernel=small_kernel,
            activation='relu',
            norm=norm)
        self.prelkb_bn = build_bn(norm, in_channels)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        out = self.large_kernel(self.pw1(self.prelkb_bn(x)))
        return x + self.drop_path(self.pw2(out))

    def fuse_bn(self) -> None:
        """Folds every BatchNorm, for good, into the convolution after or before it."""
        self.pw1.fuse_bn(self.prelkb_bn)
        self.prelkb_bn = nn.Identity()
        self.pw2.fuse_bn()

    def packed(self) -> Residual:
        """Returns the form of the folded block for inference on CPUs."""
        return Residual([self.pw1.packed(), self.large_kernel.packed()], self.pw2.packed())


class ConvFFN(nn.Module):
    """Pre-norm residual block of two 1x1 convolutions; ``(N, in_channels, H, W)`` to the same."""

    def __init__(self, in_channels: int, internal_channels: int, drop_path_rate: float, norm: Norm):
        super().__init__()
        self.preffn_bn = build_bn(norm, in_channels)
        self.pw1 = ConvBN(nn.Conv2d(in_channels, internal_channels, 1, bias=False), norm)
        self.pw2 = ConvBN(nn.Conv2d(internal_channels, in_channels, 1, bias=False), norm)
        self.nonlinear = nn.GELU()
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        out = self.nonlinear(self.pw1(self.preffn_bn(x)))
        return x + self.drop_path(self.pw2(out))

    def fuse_bn(self) -> None:
        """Folds every BatchNorm, for good, into the convolution after or before it."""
        self.pw1.fuse_bn(self.preffn_bn)
        self.preffn_bn = nn.Identity()
        self.pw2.fuse_bn()

    def packed(self) -> Residual:
        """Returns the form of the folded block for inference on CPUs."""
        return Residual([], PackedMLP(self.pw1.conv, activation_of(self.nonlinear), self.pw2.conv))


class RepLKNetStage(nn.Module):
    """Alternating :class:`RepLKBlock` and :class:`ConvFFN`, and the norm of the features that the stage hands out."""

    def __init__(self, arch: Arch, index: int, drop_path_rates: Sequence[float], norm: Norm, is_normed: bool):
        super().__init__()
        channels = arch.channels[index]
        self.blocks = nn.ModuleList()
        for rate in drop_path_rates:
            self.blocks.append(
                RepLKBlock(channels, int(channels * arch.dw_ratio), arch.large_kernel_sizes[index], arch.small_kernel,
                           rate, norm))
            self.blocks.append(ConvFFN(channels, int(channels * arch.ffn_ratio), rate, norm))
        self.norm = build_bn(norm, channels) if is_normed else nn.Identity()


class RepLKNet(LargeKernelBackbone):
    """RepLKNet, a ConvNet with kernels of up to 31x31. The sizes of feature maps are rounded up.

    Args:
        arch: ``'31B'``, ``'31L'``, ``'XL'``, or a dict with ``large_kernel_sizes``, ``layers`` and ``channels`` (one
            entry per stage) and optionally ``small_kernel`` (None: no small branch), ``dw_ratio`` (1), ``ffn_ratio``
            (4) and ``norm_intermediate_features`` (False; a BatchNorm on every output, as XL needs).
        drop_path_rate: Stochastic depth of the last block; the rate rises linearly from 0 over all blocks.
        **kwargs: See :class:`LargeKernelBackbone`.

    Source: "Scaling Up Your Kernels to 31x31: Revisiting Large Kernel Design in CNNs", arXiv 2203.06717, Section 4;
    https://github.com/DingXiaoH/RepLKNet-pytorch.
    """

    Arch: ClassVar = Arch
    is_normed_before_pooling: ClassVar = True

    def __init__(self, arch: str | dict | Arch = '31B', in_channels: int = 3, out_indices: Sequence[int] | None = None,
                 drop_path_rate: float = 0.3, **kwargs):
        super().__init__(arch, in_channels, out_indices, drop_path_rate, **kwargs)

    def build(self, drop_path_rates: Sequence[float], norm: Norm) -> None:
        arch, channels = self.arch, self.arch.channels

        def conv(cin: int, cout: int, size: int, stride: int = 1, groups: int = 1) -> ConvBN:
            return ConvBN(
                nn.Conv2d(cin, cout, size, stride, size // 2, groups=groups, bias=False), norm, relu=True)

        base = channels[0]
        self.stem = nn.ModuleList([
            conv(self.in_channels, base, 3, stride=2),
            conv(base, base, 3, groups=base),
            conv(base, base, 1),
            conv(base, base, 3, stride=2, groups=base),
        ])
        self.stages = nn.ModuleList()
        rates = iter(drop_path_rates)
        for i in range(self.num_stages):
            own = [next(rates) for _ in range(arch.layers[i])]
            is_normed = arch.norm_intermediate_features and i in self.out_indices
            self.stages.append(RepLKNetStage(arch, i, own, norm, is_normed))
        self.transitions = nn.ModuleList(
            nn.Sequential(conv(cin, cout, 1), conv(cout, cout, 3, stride=2, groups=cout))
            for cin, cout in pairwise(channels[:self.num_stages]))

    def entry(self, stage: int) -> Iterable[nn.Module]:
        return self.stem if stage == 0 else self.transitions[stage - 1]

    def blocks(self, stage: int) -> Iterable[nn.Module]:
        return self.stages[stage].blocks

    def output_norm(self, stage: int) -> nn.Module:
        return self.stages[stage].norm

    @property
    def num_layers(self) -> int:
        return sum(map(_layers, self.arch.layers))

    def layer_of(self, stage: int, block: int | None) -> int:
        """Every four blocks of a stage are one layer, and so are those left over at its end; a transition belongs to
        the layer before it.

        Source: ``optim_factory.py`` of the official code.
        """
        before = sum(map(_layers, self.arch.layers[:stage]))
        return before if block is None else before + 1 + block // _BLOCKS_A_LAYER

    @staticmethod
    def form_of(names: Iterable[str]) -> str:
        names = list(names)
        if 'stem.0.conv.bias' in names:
            return 'folded'
        if any('.lkb_reparam.' in name for name in names):
            return 'merged'
        return 'training' if any('.lkb_origin.' in name for name in names) else 'unknown'

    @staticmethod
    def classifier_norm(names: Iterable[str]) -> list[str]:
        """Takes the last stage's norm for the classifier's if no other stage has one: mmpretrain saves it there."""
        names = list(names)
        found = LargeKernelBackbone.classifier_norm(names)
        stages = {name.split('.')[1] for name in names if name.startswith('stages.')}
        norms = [name for name in names if re.match(r'stages\.\d+\.norm\.', name)]
        if len(stages) > 1 and {name.split('.')[1] for name in norms} == {max(stages)}:
            found += norms
        return found


def _layers(pairs: int) -> int:
    return -(-2 * pairs // _BLOCKS_A_LAYER)
