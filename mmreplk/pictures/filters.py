"""What large kernels have learned: where in a filter its weight lies."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..errors import InputError
from ..layers import MergeableConv
from ..layers.folding import fold_bn
from ..networks import LargeKernelBackbone

CENTRE = 5  # where there is no small kernel to compare with


@dataclass(frozen=True)
class LayerFilters:
    """The merged filters of a layer.

    Energy is the square of a weight divided by the sum of squares of its filter, averaged over the filters, so that all
    count alike: ``(KH, KW)``, with a sum of 1.

    Attributes:
        name: The layer, as ``named_modules()`` has it.
        filters: The merged filters ``(C, KH, KW)``.
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
            kernel_size=max(self.energy.shape),
            channels=len(self.filters),
            centre=self.centre,
            centre_share=centre_share(self.energy, self.centre),
            centre_share_of_large=None if large is None else centre_share(large, self.centre),
            centre_share_if_even=self.centre**2 / self.energy.size,
            radius50=radius(self.energy, 0.5),
            radius90=radius(self.energy, 0.9))


def filters_of(backbone: nn.Module) -> list[LayerFilters]:
    """Returns the merged filters of every large-kernel layer, in order; one entry for each merged convolution.

    Raises:
        InputError: If there is none.
    """
    found = []
    for name, layer in large_kernels(backbone):
        for path, (weight, _) in layer.merged_filters().items():
            filters, branches = weight.detach().flatten(0, 1), layer.merges[path]
            small = min(min(branch.extent) for branch in branches) if len(branches) > 1 else CENTRE
            own = f'{name}.{path}' if len(layer.merges) > 1 else name
            found.append(LayerFilters(own, filters.cpu().numpy(), min(small, *filters.shape[1:]), _energy(filters),
                                      None if layer.is_merged else _energy_of_largest(layer, path)))
    return found


def _energy_of_largest(layer: MergeableConv, path: str) -> np.ndarray:
    largest = layer.largest(path)
    weight, _ = fold_bn(layer.get_submodule(largest.conv), layer.get_submodule(largest.norm))
    return _energy(weight.flatten(0, 1))


def large_kernels(backbone: nn.Module) -> Iterator[tuple[str, MergeableConv]]:
    """Yields the large-kernel layers of a network by name; InputError if it is something else."""
    if not isinstance(backbone, LargeKernelBackbone):
        raise InputError(f'the backbone must be a large-kernel network, got {type(backbone).__name__}')
    for name, module in backbone.named_modules():
        if isinstance(module, MergeableConv):
            yield name, module


def centre_share(energy: np.ndarray, centre: int) -> float:
    """Returns the part of the energy that lies in the central ``centre`` by ``centre`` taps."""
    top, left = ((size - centre) // 2 for size in energy.shape)
    return float(energy[top:top + centre, left:left + centre].sum() / energy.sum())


def radius(energy: np.ndarray, part: float) -> float:
    """Returns the distance from the centre, in taps, within which at least ``part`` of the energy lies."""
    distances, within = growth(energy)
    return float(distances[np.argmax(within >= part)])


def growth(energy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distances from the centre that taps have, ascending, and the part of the energy within each."""
    y, x = (index - size // 2 for index, size in zip(np.indices(energy.shape), energy.shape, strict=True))
    squares, index = np.unique(y**2 + x**2, return_inverse=True)
    within = np.cumsum(np.bincount(index.ravel(), energy.ravel()))
    return np.sqrt(squares), within / within[-1]


def _energy(filters: Tensor) -> np.ndarray:
    """Returns the energy ``(KH, KW)`` of filters ``(C, KH, KW)``; filters of zeros are left out."""
    squares = filters.double().square()
    sums = squares.sum((1, 2))
    return (squares[sums > 0] / sums[sums > 0, None, None]).mean(0).cpu().numpy()
