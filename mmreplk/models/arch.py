"""What makes one RepLKNet differ from another."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from ..errors import InputError


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
