import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmreplk.errors import InputError
from mmreplk.networks import RepLKNet, SLaK, UniRepLKNet
from mmreplk.networks.classifier import Classifier
from tests.conftest import assert_same_bits, fill_by_name, randomize

DATA = Path(__file__).parents[1] / 'data' / 'classifiers'


def build(name: str, num_classes: int = 10) -> Classifier:
    config = json.loads(str(np.load(DATA / f'{name}.npz')['config']))
    if name == 'replknet':
        backbone = RepLKNet(config, out_indices=[3])
    elif name == 'unireplknet':
        arch = dict(layers=config['depths'], channels=config['dims'], kernel_sizes=config['kernel_sizes'])
        backbone = UniRepLKNet(arch, out_indices=[3])
    else:
        *large, small = config['kernel_size']
        channels = [int(width * config['width_factor']) for width in config['dims']]
        arch = dict(layers=config['depths'], channels=channels, large_kernel_sizes=large, small_kernel=small)
        backbone = SLaK(arch, out_indices=[3])
    return Classifier(backbone, num_classes)


each = pytest.mark.parametrize('name', ['replknet', 'unireplknet', 'slak'])


@each
def test_official_classifier_is_reproduced(name):
    data = np.load(DATA / f'{name}.npz')
    model = build(name)
    shapes = {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
    assert shapes == dict(json.loads(str(data['keys'])))
    fill_by_name(model).eval()
    rng = np.random.default_rng(7)
    images = torch.from_numpy(rng.normal(0, 1, (2, 3, *data['input_size'])).astype(np.float32))
    expected = torch.from_numpy(data['logits'])
    with torch.no_grad():
        assert (model(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
        model.switch_to_deploy()
        assert (model(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


def official(weights: dict) -> dict:
    return dict(weights)


def official_wrapped(weights: dict) -> dict:
    return dict(model=dict(weights), epoch=299)


def mmpretrain(weights: dict) -> dict:
    """The classifier's norm as one of the last stage, as ``replknet_to_mmpretrain.py`` makes it."""
    moved = {name.replace('head.', 'head.fc.') if name.startswith('head.') else 'backbone.' + (
        f'stages.3.{name}' if name.startswith('norm.') else name): tensor for name, tensor in weights.items()}
    return dict(state_dict=moved, meta={})


@pytest.mark.parametrize('name, layout', [
    *itertools.product(['replknet', 'unireplknet', 'slak'], [official, official_wrapped]),
    ('replknet', mmpretrain),
])
def test_published_layouts_load_whole(name, layout):
    weights = randomize(build(name)).state_dict()
    model = build(name)
    model.load_state_dict(layout(weights))
    assert_same_bits(model.state_dict(), weights)


@each
def test_inside_another_model(name):
    inner = randomize(build(name))
    outer = nn.ModuleDict(dict(net=build(name), other=nn.BatchNorm1d(3)))
    weights = {f'net.{key}': tensor for key, tensor in inner.state_dict().items()}
    weights |= {f'other.{key}': tensor for key, tensor in outer['other'].state_dict().items()}
    assert list(outer.state_dict()) == list(weights)
    outer.load_state_dict(weights)
    assert_same_bits(outer['net'].state_dict(), inner.state_dict())


@each
def test_what_is_missing_is_an_error(name):
    weights = build(name).state_dict()
    model = build(name)
    with pytest.raises(RuntimeError, match='Missing key.*head.weight'):
        model.load_state_dict({key: tensor for key, tensor in weights.items() if not key.startswith('head.')})
    with pytest.raises(InputError, match='do not fit'):
        model.load_state_dict({key: tensor for key, tensor in weights.items() if 'stages.1.' not in key})
    with pytest.raises(RuntimeError, match=r'size mismatch for head.weight'):
        build(name, num_classes=7).load_state_dict(weights)


@each
def test_other_heads(name):
    model, images = build(name, num_classes=0).eval(), torch.randn(2, 3, 64, 64)
    features = model(images)
    assert features.shape == (2, model.num_features)
    assert torch.equal(features, model.forward_head(model.forward_features(images), pre_logits=True))
    assert 'head.weight' not in model.state_dict()
    model.reset_classifier(5)
    assert torch.equal(model(images), model.head(features))
    assert model(images).shape == (2, 5)


def test_xl_has_no_norm_of_features():
    backbone = RepLKNet(dict(layers=[1, 1], channels=[8, 16], large_kernel_sizes=[7, 5],
                             norm_intermediate_features=True), out_indices=[1])
    assert not [name for name in Classifier(backbone).state_dict() if name.startswith('stages.1.norm')]


@each
def test_trains(name):
    model = build(name).train()
    model(torch.randn(2, 3, 64, 64)).logsumexp(1).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
