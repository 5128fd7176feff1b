"""A network that nobody published: odd names, three stages, a kernel of its own. What the package does with networks,
it must do with this one."""

import re
from dataclasses import dataclass, replace

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

from mmreplk.errors import InputError
from mmreplk.layers.blocks import ConvBN, DropPath
from mmreplk.layers.branches import Branch, MergeableConv
from mmreplk.mm.backbones import FromConfig
from mmreplk.networks import LargeKernelBackbone, arch

ROOM, PARTS = re.compile(r'floors\.(\d+)\.rooms\.(\d+)\.'), ('a', 'both')


@dataclass(frozen=True, kw_only=True)
class Arch(arch.Arch):
    extent: int = 9

    @classmethod
    def of_weights(cls, weights):
        rooms = {tuple(map(int, m.groups())) for m in map(ROOM.match, weights) if m}
        wide = {(i, name): weights.get(f'floors.{i}.rooms.0.wide.{name}.weight') for i, _ in rooms for name in PARTS}
        found = {i: weight for (i, _), weight in wide.items() if weight is not None}
        try:
            return cls(layers=[sum(i == j for i, _ in rooms) for j in sorted(found)],
                       channels=[len(found[i]) for i in sorted(found)], extent=found[0].shape[-1])
        except (KeyError, InputError):
            return None

    def with_kernels(self, size):
        return replace(self, extent=size)


class Room(nn.Module):

    def __init__(self, channels, extent, rate, norm):
        super().__init__()
        self.wide = MergeableConv(channels, channels, [
            Branch('a', 'na', (extent, extent), 'both'), Branch('b', 'nb', (1, min(3, extent)), 'both')
        ], groups=channels, norm=norm)
        self.mix = ConvBN(nn.Conv2d(channels, channels, 1, bias=False), norm, relu=True)
        self.drop = DropPath(rate)

    def forward(self, x):
        return x + self.drop(self.mix(self.wide(x)))


class MadeUp(LargeKernelBackbone):
    """The shortest network that there can be."""

    Arch = Arch

    def __init__(self, arch=dict(layers=[1, 2, 1], channels=[8, 12, 16]), **kwargs):  # noqa: B006
        super().__init__(arch, **kwargs)

    def build(self, drop_path_rates, norm):
        self.floors, self.exits = nn.ModuleList(), nn.ModuleDict()
        rates, widths = iter(drop_path_rates), (self.in_channels, *self.arch.channels)
        for i in range(self.num_stages):
            step = 4 if i == 0 else 2
            stairs = ConvBN(nn.Conv2d(widths[i], widths[i + 1], step, step, bias=False), norm)
            rooms = [Room(widths[i + 1], self.arch.extent, next(rates), norm) for _ in range(self.arch.layers[i])]
            self.floors.append(nn.ModuleDict(dict(stairs=stairs, rooms=nn.ModuleList(rooms))))
            if i in self.out_indices:
                self.exits[str(i)] = nn.BatchNorm2d(widths[i + 1])

    def entry(self, stage):
        return [self.floors[stage].stairs]

    def blocks(self, stage):
        return self.floors[stage].rooms

    def output_norm(self, stage):
        return self.exits[str(stage)]

    @property
    def num_layers(self):
        return len(self.arch.layers)

    def layer_of(self, stage, block):
        return stage if block is None else stage + 1

    @staticmethod
    def form_of(names):
        names = list(names)
        if 'floors.0.stairs.conv.bias' in names:
            return 'folded'
        if any(name.endswith('.wide.both.bias') for name in names):
            return 'merged'
        return 'training' if any(name.endswith('.wide.na.weight') for name in names) else 'unknown'


@MODELS.register_module(name='MadeUp', force=True)
class RegisteredMadeUp(FromConfig, MadeUp, BaseModule):
    pass
