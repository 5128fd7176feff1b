import math

import numpy as np
import pytest
import torch
from torch import nn

from mmreplk import InputError, ReparamLargeKernelConv, RepLKNet
from mmreplk.pictures.filters import CENTRE, centre_share, filters_of, growth, radius
from mmreplk.pictures.merge_differences import merge_differences
from tests.conftest import assert_same_bits, copied_state, randomize

ARCH = dict(large_kernel_sizes=[13, 7], layers=[1, 2], channels=[4, 8], small_kernel=3)
LAYERS = ['stages.0.blocks.0.large_kernel', 'stages.1.blocks.0.large_kernel', 'stages.1.blocks.2.large_kernel']

def network(**options):
    return randomize(RepLKNet(dict(ARCH, **options), out_indices=[0, 1])).eval()


def test_how_energy_spreads():
    point, even = np.zeros((7, 7)), np.full((7, 7), 1 / 49)
    point[3, 3] = 1
    assert centre_share(point, 3) == 1 and radius(point, 0.9) == 0
    assert centre_share(even, 3) == pytest.approx(9 / 49) and radius(even, 1 - 1e-9) == pytest.approx(math.sqrt(18))
    energy = np.random.default_rng(0).random((9, 9))
    away = {(y, x): math.hypot(y - 4, x - 4) for y in range(9) for x in range(9)}
    for part in (0.1, 0.5, 0.9):
        wide = radius(energy, part)
        within, closer = (sum(energy[at] for at, r in away.items() if r <= limit) / energy.sum()
                          for limit in (wide + 1e-9, wide - 1e-9))
        assert closer < part <= within
    distances, inside = growth(energy)
    assert distances == pytest.approx(sorted(set(away.values()))) and inside[-1] == pytest.approx(1)


def test_kernels_are_the_merged_ones():
    model = network()
    layers = [model.get_submodule(name) for name in LAYERS]
    for branch in (layers[0].lkb_origin, layers[0].small_conv):
        branch.bn.weight.data[1] = 0  # a filter of zeros has no energy to count
    found = filters_of(model)
    assert [kernel.name for kernel in found] == LAYERS
    for i, (kernel, layer) in enumerate(zip(found, layers, strict=True)):
        filters = layer.merged_filters()['lkb_reparam'][0][:, 0].double().numpy()
        np.testing.assert_allclose(kernel.filters, filters, rtol=1e-6, atol=1e-7)
        living = [f**2 / (f**2).sum() for f in filters if f.any()]
        assert len(living) == len(filters) - (i == 0)
        np.testing.assert_allclose(kernel.energy, np.mean(living, axis=0), rtol=1e-5)
        own = kernel.figures()
        assert own['kernel_size'] == [13, 7, 7][i] and own['channels'] == [4, 8, 8][i] and own['centre'] == 3
        # The small kernel makes the peak: without it, energy is spread as it was drawn.
        assert own['centre_share_of_large'] == pytest.approx(9 / own['kernel_size']**2, rel=0.6)
        assert own['centre_share'] > 1.2 * own['centre_share_of_large']
    model.reparameterize()
    for merged, kernel in zip(filters_of(model), found, strict=True):
        np.testing.assert_allclose(merged.energy, kernel.energy, rtol=1e-5)
        assert merged.energy_of_large is None and merged.figures()['centre_share_of_large'] is None
        assert merged.centre == 3
    assert [kernel.centre for kernel in filters_of(network(small_kernel=None))] == [CENTRE] * 3
    with pytest.raises(InputError, match='the backbone must be a large-kernel network, got Conv2d'):
        filters_of(nn.Conv2d(3, 3, 3))


def test_merging_differs_by_rounding_and_the_model_stays_as_it_is():
    model = network()
    images = [torch.randn(1, 3, 40, 48) for _ in range(2)]
    before = copied_state(model)
    found = merge_differences(model.train(), images)
    assert [row['name'] for row in found['layers']] == LAYERS
    assert [row['kernel_size'] for row in found['layers']] == [13, 7, 7]
    assert [(row['stage'], row['form']) for row in found['features']] == [
        (0, 'merged'), (0, 'folded'), (1, 'merged'), (1, 'folded')]
    for row in (*found['layers'], *found['features']):
        assert 0 < row['max_rel'] < 1e-5 and row['max_abs'] > 0, row
    assert_same_bits(model.state_dict(), before)
    assert not any(module._forward_hooks or 'forward' in vars(module) for module in model.modules())


def test_a_layer_that_merges_wrongly_stands_out(monkeypatch):
    model, image = network(), torch.randn(1, 3, 40, 48)
    wrong = model.get_submodule(LAYERS[1])
    right = ReparamLargeKernelConv.merged_filters

    def merged(layer):
        weight, bias = right(layer)['lkb_reparam']
        is_wrong = weight.shape == (8, 1, 7, 7) and torch.equal(layer.lkb_origin.bn.weight, wrong.lkb_origin.bn.weight)
        return dict(lkb_reparam=(weight * 1.01 if is_wrong else weight, bias))

    monkeypatch.setattr(ReparamLargeKernelConv, 'merged_filters', merged)
    found = merge_differences(model, [image])
    assert [row['max_rel'] > 1e-4 for row in found['layers']] == [False, True, False]
    assert [row['max_rel'] > 1e-5 for row in found['features']] == [False, False, True, True]
    with torch.no_grad():
        wrong.lkb_origin.bn.bias[0] = float('nan')
    assert all(math.isnan(row['max_abs']) for row in merge_differences(model, [image])['features'][2:])


def test_what_cannot_be_compared():
    model = network()
    with pytest.raises(InputError, match='there is no image to compare on'):
        merge_differences(model, [])
    model.reparameterize()
    with pytest.raises(InputError, match='merged already'):
        merge_differences(model, [torch.randn(1, 3, 40, 48)])
