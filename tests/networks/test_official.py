"""What the official implementations compute, with weights that follow from the names of the tensors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmreplk import RepLKNet, SLaK, UniRepLKNet, reparameterized
from tests.conftest import fill_by_name

FIXTURES = sorted((Path(__file__).parents[1] / 'data').glob('*.npz'))


def build(name: str, config: dict):
    """Returns the network that the official constructor makes of ``config``."""
    if name.startswith('unireplknet'):
        sizes = dict(kernel_sizes=config['kernel_sizes']) if 'kernel_sizes' in config else {}
        return UniRepLKNet(dict(layers=config['depths'], channels=config['dims'], **sizes))
    if name.startswith('slak'):
        *large, small = config['kernel_size']
        channels = [int(width * config['width_factor']) for width in config['dims']]
        return SLaK(dict(layers=config['depths'], channels=channels, large_kernel_sizes=large, small_kernel=small))
    out_indices = config.pop('out_indices')
    return RepLKNet(config, out_indices=out_indices)


@pytest.mark.parametrize('fixture', FIXTURES, ids=lambda path: path.stem)
def test_official_implementation_is_reproduced(fixture):
    data = np.load(fixture)
    model = build(fixture.stem, json.loads(str(data['config'])))
    assert [[k, list(v.shape)] for k, v in model.state_dict().items()] == json.loads(str(data['keys']))
    assert sum(p.numel() for p in model.parameters()) == data['n_params']
    fill_by_name(model).eval()
    rng = np.random.default_rng(7)
    images = torch.from_numpy(rng.normal(0, 1, (2, 3, *data['input_size'])).astype(np.float32))

    def check(outs, tolerance):
        for i, out in zip(model.out_indices, outs, strict=True):
            assert list(out.shape) == list(data[f'stage{i}_shape'])
            values = out.flatten()[torch.from_numpy(data[f'stage{i}_index'])].numpy()
            assert abs(values - data[f'stage{i}_value']).max() <= tolerance * out.abs().max()

    with torch.no_grad():
        check(model(images), 1e-5)
        with reparameterized(model):
            check(model(images), 1e-5)
        model.reparameterize()
        check(model(images), 1e-5)
        model.reparameterize(fuse_bn=True)
        check(model(images), 1e-5)
