"""What merging changes, in numbers: rounding, and nothing else."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..layers import MergeableConv
from ..merging import reparameterized
from .filters import large_kernels


@torch.no_grad()
def merge_differences(backbone: nn.Module, images: Iterable[Tensor]) -> dict[str, list[dict]]:
    """Measures what merging changes on real images, in each layer by itself, and in the features at the end.

    Args:
        backbone: A large-kernel network in training form; it is put into evaluation mode and otherwise not changed.
        images: Normalized images ``(N, 3, H, W)``.

    Returns:
        ``layers``: for each layer, the largest difference between its output and that of its merged form on the same
        input (``max_abs``), and the same relative to the largest output (``max_rel``). ``features``: the same for every
        output of the backbone, where differences add up, with large kernels merged (``form`` is ``'merged'``) and with
        all other BatchNorms folded too (``'folded'``).

    Raises:
        InputError: If nothing is left to merge, or there is no image.
    """
    backbone.eval()
    layers = {name: layer for name, layer in large_kernels(backbone) if not layer.is_merged}
    if not layers:
        raise InputError('the large kernels are merged already: a training checkpoint, in training form, is needed')
    found: dict[tuple, _Difference] = defaultdict(_Difference)
    watches = {name: _watch(layer, found['layer', name]) for name, layer in layers.items()}
    is_measured = False
    for image in images:
        handles = [layer.register_forward_hook(watches[name]) for name, layer in layers.items()]
        try:
            expected = backbone(image)
        finally:
            for handle in handles:
                handle.remove()
        for form, fuse_bn in (('merged', False), ('folded', True)):
            with reparameterized(backbone, fuse_bn):
                for i, actual, wanted in zip(backbone.out_indices, backbone(image), expected, strict=True):
                    found[form, i].add(actual, wanted)
        is_measured = True
    if not is_measured:
        raise InputError('there is no image to compare on')
    sizes = {name: max(max(conv.kernel_size) for conv in layer.large_filters().values())
             for name, layer in layers.items()}
    return dict(
        layers=[dict(name=name, kernel_size=size, **found['layer', name].figures()) for name, size in sizes.items()],
        features=[dict(stage=stage, form=form, **found[form, stage].figures())
                  for stage in backbone.out_indices for form in ('merged', 'folded')])


class _Difference:
    """The largest difference so far, and the largest value to compare it with."""

    def __init__(self) -> None:
        self.difference = self.largest = 0.0

    def add(self, actual: Tensor, expected: Tensor) -> None:
        expected = expected.double()
        # np.maximum, unlike max, passes NaN on.
        self.difference = float(np.maximum(self.difference, (actual.double() - expected).abs().max().item()))
        self.largest = float(np.maximum(self.largest, expected.abs().max().item()))

    def figures(self) -> dict[str, float]:
        return dict(max_abs=self.difference, max_rel=self.difference / (self.largest or 1.0))


def _watch(layer: MergeableConv, difference: _Difference) -> Callable[..., None]:
    """Returns the hook that runs the merged form of ``layer`` beside it."""
    twin = copy.deepcopy(layer)
    twin.reparameterize()
    return lambda _, inputs, output: difference.add(twin(*inputs), output)
