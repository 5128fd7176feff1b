"""UniRepLKNet. Module names, and with them the state dict, are those of the official implementation."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..layers.blocks import GRN, DropPath, LayerNorm2d, SqueezeExcitation, ToChannelsFirst, ToChannelsLast
from ..layers.branches import Branch, MergeableConv, Norm, build_bn
from ..layers.conv import LargeKernelConv2d
from ..layers.folding import biased, fold_bn
from ..layers.packed import PackedPointwise, Residual, activation_of, packed
from . import arch
from .convnext import ConvNeXtBody

# The parallel branches of a large kernel, by its size: their kernel sizes and dilations.
_DILATED = {
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    7: ((5, 1), (3, 2), (3, 3)),
}
_PLAIN = (3, 5)  # kernels without parallel branches
_BLOCK = re.compile(r'stages\.(\d+)\.(\d+)\.')


@dataclass(frozen=True, kw_only=True)
class Arch(arch.Arch):
    """An architecture; see :class:`UniRepLKNet`."""

    kernel_sizes: Sequence[Sequence[int]] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = self.kernel_sizes
        if sizes is None:
            sizes = next((a.kernel_sizes for a in self.NAMED.values() if a.layers == self.layers), None)
        if sizes is None:
            known = sorted({a.layers for a in self.NAMED.values()})
            raise InputError(f'arch needs kernel_sizes, a list for each stage with a size for each block: only layers '
                             f'{known} have default ones, got layers {self.layers}')
        if not isinstance(sizes, Sequence) or not all(isinstance(s, Sequence) for s in sizes) or \
                tuple(map(len, sizes)) != self.layers:
            raise InputError(f'kernel_sizes must have a list for each stage, with {self.layers} entries, got {sizes!r}')
        allowed = (0, *_PLAIN, *sorted(_DILATED))
        unknown = sorted({size for stage in sizes for size in stage} - set(allowed))
        if unknown:
            raise InputError(f'kernel_sizes must be among {allowed}, got {unknown}')
        object.__setattr__(self, 'kernel_sizes', tuple(map(tuple, sizes)))

    @classmethod
    def of_weights(cls, weights: Mapping[str, Tensor]) -> 'Arch | None':
        """Reads the architecture off a UniRepLKNet's tensors; None if they are of something else."""
        blocks = {tuple(map(int, match.groups())) for match in map(_BLOCK.match, weights) if match}
        stages = range(len({stage for stage, _ in blocks}))
        try:
            layers = [sum(stage == i for stage, _ in blocks) for i in stages]
            channels = [weights[f'stages.{i}.0.pwconv1.1.weight'].shape[1] for i in stages]
            sizes = [[_kernel_size(weights, f'stages.{i}.{j}.dwconv.') for j in range(n)] for i, n in enumerate(layers)]
            return cls(layers=layers, channels=channels, kernel_sizes=sizes)
        except (KeyError, IndexError, InputError):
            return None

    def with_kernels(self, size: int) -> 'Arch':
        return replace(self, kernel_sizes=[[size] * count for count in self.layers])


def _kernel_size(weights: Mapping[str, Tensor], prefix: str) -> int:
    own = [weights[name] for name in (f'{prefix}lk_origin.weight', f'{prefix}weight') if name in weights]
    return own[0].shape[-1] if own else 0


def _named(layers: tuple[int, ...], width: int, third: tuple[int, ...]) -> Arch:
    sizes = [[3] * layers[0], [13] * layers[1], third * (layers[2] // len(third)), [13] * layers[3]]
    return Arch(layers=layers, channels=tuple(width * 2**i for i in range(4)), kernel_sizes=sizes)


Arch.NAMED = {
    **{name: _named((2, 2, 6, 2), width, (13, )) for name, width in dict(A=40, F=48, P=64).items()},
    'N': _named((2, 2, 8, 2), 80, (13, )),
    'T': _named((3, 3, 18, 3), 80, (13, 3)),
    **{name: _named((3, 3, 27, 3), width, (13, 3, 3)) for name, width in dict(S=96, B=128, L=192, XL=256).items()},
}


class DilatedReparamConv(MergeableConv):
    """A large depthwise convolution with parallel dilated ones, which merge into it; ``(N, C, H, W)`` to the same."""

    def __init__(self, channels: int, kernel_size: int, norm: Norm):
        branches = [Branch('lk_origin', 'origin_bn', (kernel_size, kernel_size), 'lk_origin')]
        branches += [Branch(f'dil_conv_k{k}_{r}', f'dil_bn_k{k}_{r}', (k, k), 'lk_origin', r)
                     for k, r in _DILATED[kernel_size]]
        super().__init__(channels, channels, branches, groups=channels, norm=norm)


class UniRepLKNetBlock(nn.Module):
    """Residual block: depthwise convolution, squeeze-excitation, and two linear layers with GRN between them."""

    def __init__(self, channels: int, kernel_size: int, drop_path_rate: float, layer_scale: float, norm: Norm):
        super().__init__()
        if kernel_size == 0:
            self.dwconv = nn.Identity()
        elif kernel_size in _PLAIN:
            self.dwconv = LargeKernelConv2d(
                channels, channels, kernel_size, padding=kernel_size // 2, groups=channels, bias=False)
        else:
            self.dwconv = DilatedReparamConv(channels, kernel_size, norm)
        self.norm = build_bn(norm, channels) if kernel_size else nn.Identity()
        self.se = SqueezeExcitation(channels, channels // 4)
        self.pwconv1 = nn.Sequential(ToChannelsLast(), nn.Linear(channels, 4 * channels))
        self.act = nn.Sequential(nn.GELU(), GRN(4 * channels))
        self.pwconv2 = nn.Sequential(
            nn.Linear(4 * channels, channels, bias=False), ToChannelsFirst(), build_bn(norm, channels))
        self.gamma = nn.Parameter(torch.full((channels, ), float(layer_scale)))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        out = self.se(self.norm(self.dwconv(x)))
        out = self.pwconv2(self.act(self.pwconv1(out)))
        if self.gamma is not None:
            out = out * self.gamma.view(-1, 1, 1).to(out.dtype)
        return x + self.drop_path(out)

    @torch.no_grad()
    def fuse_bn(self) -> None:
        """Folds, for good, every BatchNorm, the summand of GRN and the layer scale into the layers beside them."""
        if not isinstance(self.norm, nn.Identity):
            if isinstance(self.dwconv, MergeableConv):
                self.dwconv.lk_origin = biased(self.dwconv.lk_origin, *fold_bn(self.dwconv.lk_origin, self.norm))
            else:
                self.dwconv = biased(self.dwconv, *fold_bn(self.dwconv, self.norm))
            self.norm = nn.Identity()
        linear, to_channels_first, bn = self.pwconv2
        # GRN's summand, multiplied by the linear layer's weight, becomes a bias of that layer.
        shift = linear.weight.to(torch.promote_types(linear.weight.dtype, torch.float32))
        shift = shift @ self.act[1].beta.flatten().to(shift.dtype)
        linear = biased(linear, linear.weight, shift)
        weight, bias = fold_bn(linear, bn)
        scale = self.gamma.to(weight.dtype)
        self.pwconv2 = nn.Sequential(biased(linear, weight * scale[:, None], bias * scale), to_channels_first)
        self.act[1].beta = self.gamma = None

    def packed(self) -> Residual:
        """Returns the form of the folded block for inference on CPUs."""
        (gelu, grn), (last, _) = self.act, self.pwconv2
        first = PackedPointwise(self.pwconv1[1], activation_of(gelu))
        layers = [packed(self.dwconv), packed(self.se), first, ToChannelsLast(), packed(grn), ToChannelsFirst()]
        return Residual(layers, PackedPointwise(last))


class UniRepLKNet(ConvNeXtBody):
    """UniRepLKNet, a ConvNet with 13x13 kernels that dilated branches help to train.

    The sizes of feature maps are rounded up.

    Args:
        arch: One of A, F, P, N, T, S, B, L and XL, such as ``'T'``, or a dict with ``layers`` and ``channels``, one
            entry per stage, and ``kernel_sizes``, a list per stage with one entry per block: 0 for no convolution, 3 or
            5 for one without branches, an odd size from 7 to 17 for one with them. ``kernel_sizes`` may be left out
            where ``layers`` are those of a named architecture.
        drop_path_rate: Stochastic depth of the last block; the rate rises linearly from 0 over all blocks.
        layer_scale: Initial value of the factors that scale the channels of a block's output, before it is added to
            its input.
        **kwargs: See :class:`LargeKernelBackbone`.

    Source: "UniRepLKNet: A Universal Perception Large-Kernel ConvNet", arXiv 2311.15599;
    https://github.com/AILab-CVC/UniRepLKNet.
    """

    Arch: ClassVar = Arch

    def __init__(self, arch: str | dict | Arch = 'T', in_channels: int = 3, out_indices: Sequence[int] | None = None,
                 drop_path_rate: float = 0.2, layer_scale: float = 1e-6, **kwargs):
        super().__init__(arch, in_channels, out_indices, drop_path_rate, layer_scale=layer_scale, **kwargs)

    def downsampling(self, stage: int) -> nn.Sequential:
        channels = self.arch.channels
        if stage > 0:
            return nn.Sequential(*_halve(channels[stage - 1], channels[stage]))
        half = channels[0] // 2
        return nn.Sequential(*_halve(self.in_channels, half), nn.GELU(), *_halve(half, channels[0]))

    def block(self, stage: int, index: int, drop_path_rate: float, norm: Norm) -> nn.Module:
        size = self.arch.kernel_sizes[stage][index]
        return UniRepLKNetBlock(self.arch.channels[stage], size, drop_path_rate, self.layer_scale, norm)

    @staticmethod
    def form_of(names: Iterable[str]) -> str:
        names = list(names)
        if any(name.endswith('.pwconv2.0.bias') for name in names):
            return 'folded'
        if any(name.endswith('.dwconv.lk_origin.bias') for name in names):
            return 'merged'
        return 'training' if any(name.endswith('.pwconv2.2.weight') for name in names) else 'unknown'


def _halve(in_channels: int, out_channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1), LayerNorm2d(out_channels)
