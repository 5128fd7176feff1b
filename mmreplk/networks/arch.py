"""Architectures: the sizes in which networks of one kind differ."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True, kw_only=True)
class Arch(ABC):
    """An architecture. Each kind of network adds its own fields, and the published architectures as ``NAMED``.

    Attributes:
        layers: How many blocks each stage has, as the network counts them.
        channels: Channels of each stage.
    """

    NAMED: ClassVar[dict[str, 'Arch']] = {}
    # Fields that some weights do not show, with the value that is then read.
    UNTOLD: ClassVar[dict[str, Any]] = {}

    layers: Sequence[int]
    channels: Sequence[int]

    def __post_init__(self) -> None:
        for name in ('layers', 'channels'):
            object.__setattr__(self, name, self.per_stage(name))

    def per_stage(self, name: str) -> tuple[int, ...]:
        """Returns a field as a tuple; InputError if it is not a positive integer for each stage."""
        values = getattr(self, name)
        if not isinstance(values, Sequence) or not values or not all(isinstance(v, int) and v > 0 for v in values):
            raise InputError(f'{name} must be a list of positive integers, one per stage, got {values!r}')
        if len(values) != len(self.layers):
            raise InputError(f'{name} must have one entry for each of the {len(self.layers)} stages that layers lists, '
                             f'got {values!r}')
        return tuple(values)

    @classmethod
    def parse(cls, arch: 'str | dict | Arch') -> 'Arch':
        """Returns a published architecture by name, or the one that a dict describes; InputError for anything else."""
        if isinstance(arch, cls):
            return arch
        if isinstance(arch, str) and arch in cls.NAMED:
            return cls.NAMED[arch]
        if not isinstance(arch, dict):
            raise InputError(f'arch must be one of {list(cls.NAMED)} or a dict, got {arch!r}')
        names = [field.name for field in fields(cls)]
        required = [field.name for field in fields(cls) if field.default is MISSING]
        unknown, missing = sorted(set(arch) - set(names)), [name for name in required if name not in arch]
        if unknown or missing:
            raise InputError(f'arch has unknown keys {unknown} and lacks {missing}; it takes {names}')
        return cls(**arch)

    @classmethod
    @abstractmethod
    def of_weights(cls, weights: Mapping[str, Tensor]) -> 'Arch | None':
        """Reads the architecture off the names and shapes of a network's tensors; None if they are of another kind."""

    @abstractmethod
    def with_kernels(self, size: int) -> 'Arch':
        """Returns the same architecture with kernels of ``size`` without parallel branches, for comparisons."""

    @property
    def name(self) -> str | None:
        """The name of the published architecture that this one is, as far as weights show; None for any other."""
        return next((name for name, arch in self.NAMED.items() if not self.differences(arch)), None)

    def differences(self, other: 'Arch') -> str:
        """Says what of this architecture, read off weights, contradicts ``other``; an empty string if nothing does."""
        return ', '.join(f'{field.name} {value}, not {getattr(other, field.name)}' for field in fields(self)
                         if (value := getattr(self, field.name)) != getattr(other, field.name)
                         and not (field.name in self.UNTOLD and value == self.UNTOLD[field.name]))
