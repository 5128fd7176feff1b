"""What makes one RepLKNet differ from another."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from torch import Tensor

from ..errors import InputError

_BLOCK = re.compile(r'stages\.(\d+)\.blocks\.(\d+)\.')


@dataclass(frozen=True)
class Arch:
    """An architecture, one entry per stage in each of the first three fields; see :class:`RepLKNet`."""

    large_kernel_sizes: Sequence[int]
    layers: Sequence[int]
    channels: Sequence[int]
    small_kernel: int | None = None
    dw_ratio: float = 1
    ffn_ratio: float = 4
    norm_intermediate_features: bool = False

    @classmethod
    def parse(cls, arch: str | dict) -> 'Arch':
        """Returns the architecture of that name, or the one that the dict spells out; InputError if there is none."""
        if isinstance(arch, str):
            if arch not in ARCHS:
                raise InputError(f'arch must be one of {sorted(ARCHS)} or a dict, got {arch!r}')
            return ARCHS[arch]
        if not isinstance(arch, dict):
            raise InputError(f'arch must be one of {sorted(ARCHS)} or a dict, got {arch!r}')
        names = [field.name for field in fields(cls)]
        unknown, missing = sorted(set(arch) - set(names)), [name for name in names[:3] if name not in arch]
        if unknown or missing:
            raise InputError(f'arch has unknown keys {unknown} and lacks {missing}; it takes {names}')
        return cls(**arch)

    @classmethod
    def of_weights(cls, weights: Mapping[str, Tensor]) -> 'Arch | None':
        """Reads the architecture off the shapes of a RepLKNet's tensors; None if they are of something else.

        Merged weights do not tell the small kernel, pre-trained ones not whether features are normalized: both read as
        not.
        """
        blocks = {tuple(map(int, match.groups())) for match in map(_BLOCK.match, weights) if match}
        stages = range(len({stage for stage, _ in blocks}))
        if not blocks:
            return None

        def shapes(*names: str) -> list[tuple[int, ...]]:
            return [next(weights[n].shape for n in (f'stages.{i}.blocks.{name}.weight' for name in names)
                         if n in weights) for i in stages]  # yapf: disable

        try:
            large = shapes('0.large_kernel.lkb_origin.conv', '0.large_kernel.lkb_reparam')
            small = weights.get('stages.0.blocks.0.large_kernel.small_conv.conv.weight')
            widened, expanded = shapes('0.pw1.conv'), shapes('1.pw1.conv')
            return cls(
                large_kernel_sizes=[shape[-1] for shape in large],
                layers=[sum(stage == i for stage, _ in blocks) // 2 for i in stages],
                channels=[shape[1] for shape in widened],
                small_kernel=None if small is None else small.shape[-1],
                dw_ratio=max(shape[0] / shape[1] for shape in widened),
                ffn_ratio=max(shape[0] / shape[1] for shape in expanded),
                norm_intermediate_features='stages.0.norm.weight' in weights)
        except (StopIteration, IndexError, InputError):
            return None

    @property
    def name(self) -> str | None:
        """The name of the published architecture that this is, as far as weights tell; None for any other."""
        return next((name for name, arch in ARCHS.items() if not self.differences(arch)), None)

    def differences(self, other: 'Arch') -> str:
        """Says, of an architecture read off weights, what contradicts another one; an empty string if nothing does."""
        untold = dict(small_kernel=None, norm_intermediate_features=False)
        return ', '.join(f'{field.name} {value}, not {getattr(other, field.name)}' for field in fields(self)
                         if (value := getattr(self, field.name)) != getattr(other, field.name)
                         and (field.name not in untold or value != untold[field.name]))  # yapf: disable

    def __post_init__(self) -> None:
        for name in ('large_kernel_sizes', 'layers', 'channels'):
            values = getattr(self, name)
            if not isinstance(values, Sequence) or not values or not all(isinstance(v, int) and v > 0 for v in values):
                raise InputError(f'{name} must be a list of positive integers, one per stage, got {values!r}')
            if len(values) != len(self.layers):
                raise InputError(f'{name} must have one entry for each of the {len(self.layers)} stages that layers '
                                 f'lists, got {values!r}')
            object.__setattr__(self, name, tuple(values))
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


ARCHS = {
    '31B': Arch((31, 29, 27, 13), (2, 2, 18, 2), (128, 256, 512, 1024), small_kernel=5),
    '31L': Arch((31, 29, 27, 13), (2, 2, 18, 2), (192, 384, 768, 1536), small_kernel=5),
    'XL': Arch((27, 27, 27, 13), (2, 2, 18, 2), (256, 512, 1024, 2048), dw_ratio=1.5, norm_intermediate_features=True),
}
