"""What large kernels have learned: where in a filter its weight lies."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..errors import InputError
from ..models import ReparamLargeKernelConv, RepLKNet
from ..models.folding import fold_bn

CENTRE = 5  # where there is no small kernel to compare with


@dataclass(frozen=True)
class Kernel:
    """The merged filters of a layer.

    Energy is the square of a weight in parts of the sum over its filter, averaged over the filters, each of which so
    counts alike: ``(K, K)``, with a sum of 1.

    Attributes:
        name: The layer, as ``named_modules()`` has it.
        filters: The merged filters ``(C, K, K)``.
        centre: The extent of the small kernel or, where there is none, of the area to compare with.
        energy: The energy of the merged filters.
        energy_of_large: The energy of the large branch alone; None where it has been merged for good.
    """

    name: str
    filters: np.ndarray
    centre: int
    energy: np.ndarray
    energy_of_large: np.ndarray | None

    def figures(self) -> dict[str, Any]:
        """Returns how the energy is spread, as plain numbers; shares from 0 to 1, radii in taps."""
        large = self.energy_of_large
        return dict(
            name=self.name,
            kernel_size=len(self.energy),
            channels=len(self.filters),
            centre=self.centre,
            centre_share=centre_share(self.energy, self.centre),
            centre_share_of_large=None if large is None else centre_share(large, self.centre),
            centre_share_if_even=self.centre**2 / self.energy.size,
            radius50=radius(self.energy, 0.5),
            radius90=radius(self.energy, 0.9))


def merged_kernels(backbone: nn.Module) -> list[Kernel]:
    """Returns the merged filters of every large-kernel layer, in order.

    Raises:
        InputError: If there is none.
    """
    found = []
    for name, layer in large_kernels(backbone):
        filters = layer.equivalent_kernel_bias()[0].detach().flatten(0, 1)
        small = backbone.arch.small_kernel or CENTRE
        large = None if layer.deploy else _energy(fold_bn(layer.lkb_origin.conv, layer.lkb_origin.bn)[0].flatten(0, 1))
        found.append(Kernel(name, filters.cpu().numpy(), min(small, filters.shape[-1]), _energy(filters), large))
    return found


def large_kernels(backbone: nn.Module) -> Iterator[tuple[str, ReparamLargeKernelConv]]:
    """Yields the large-kernel layers of a RepLKNet by name; InputError if it is something else."""
    if not isinstance(backbone, RepLKNet):
        raise InputError(f'the backbone must be a RepLKNet, got {type(backbone).__name__}')
    for name, module in backbone.named_modules():
        if isinstance(module, ReparamLargeKernelConv):
            yield name, module


def centre_share(energy: np.ndarray, centre: int) -> float:
    """Returns the part of the energy that lies in the central ``centre`` by ``centre`` taps."""
    margin = (len(energy) - centre) // 2
    return float(energy[margin:margin + centre, margin:margin + centre].sum() / energy.sum())


def radius(energy: np.ndarray, part: float) -> float:
    """Returns the distance from the centre, in taps, within which at least ``part`` of the energy lies."""
    distances, within = growth(energy)
    return float(distances[np.argmax(within >= part)])


def growth(energy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distances from the centre that taps have, ascending, and the part of the energy within each."""
    y, x = np.indices(energy.shape) - len(energy) // 2
    squares, index = np.unique(y**2 + x**2, return_inverse=True)
    within = np.cumsum(np.bincount(index.ravel(), energy.ravel()))
    return np.sqrt(squares), within / within[-1]


def _energy(filters: Tensor) -> np.ndarray:
    """Returns the energy ``(K, K)`` of filters ``(C, K, K)``; those that are zero have none."""
    squares = filters.double().square()
    sums = squares.sum((1, 2))
    return (squares[sums > 0] / sums[sums > 0, None, None]).mean(0).cpu().numpy()
