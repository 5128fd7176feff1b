"""The networks as configs of MMSegmentation and MMDetection build them."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmreplk import InputError, networks
from mmreplk.mm import RepLKNet, SLaK, UniRepLKNet
from mmreplk.mm.backbones import arguments_of, build_empty, network_of

SIZES = dict(layers=[1, 1, 2, 1], channels=[8, 12, 16, 20])
ARCHS = {
    RepLKNet: dict(SIZES, large_kernel_sizes=[13, 7, 5, 3], small_kernel=3),
    UniRepLKNet: dict(SIZES, kernel_sizes=[[3], [13], [7, 0], [9]]),
    SLaK: dict(SIZES, large_kernel_sizes=[13, 9, 7, 5]),
}
every_network = pytest.mark.parametrize('network', ARCHS, ids=lambda network: network.__name__)


@every_network
@pytest.mark.parametrize('scope', ['mmengine', 'mmseg', 'mmdet'])
def test_found_from_every_scope(network, scope):
    described = dict(type=network.__name__, arch=ARCHS[network])
    with DefaultScope.overwrite_default_scope(scope):
        assert type(MODELS.build(described)) is network and network_of(described) is network
    if scope != 'mmengine':
        registry = pytest.importorskip(f'{scope}.registry').MODELS
        assert type(registry.build(described)) is network
        assert network_of(dict(described, _scope_=scope)) is network


@every_network
def test_norm_cfg_reaches_every_batch_norm(network):
    model = network(ARCHS[network], norm_cfg=dict(type='BN', eps=1e-3, momentum=0.2, requires_grad=False))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and {(m.eps, m.momentum, m.weight.requires_grad) for m in norms} == {(1e-3, 0.2, False)}
    sync = network(ARCHS[network], norm_cfg=dict(type='SyncBN'))
    assert len([m for m in sync.modules() if isinstance(m, nn.SyncBatchNorm)]) == len(norms)
    for wrong in (dict(type='GN', num_groups=1), dict(type='BN', track_running_stats=False)):
        with pytest.raises(InputError, match='norm_cfg must describe a BatchNorm with running statistics'):
            network(ARCHS[network], norm_cfg=wrong)


@every_network
def test_it_has_the_tensors_of_the_network_below(network):
    below = getattr(networks, network.__name__)
    torch.manual_seed(0)
    expected = below(ARCHS[network]).state_dict()
    torch.manual_seed(0)
    actual = network(ARCHS[network], init_cfg=dict(type='Constant', layer='Conv2d', val=1.))
    assert actual.init_cfg['type'] == 'Constant'
    assert all(torch.equal(actual.state_dict()[name], tensor) for name, tensor in expected.items())


@every_network
def test_a_config_node_is_built_without_weights(network):
    described = Config(dict(model=dict(type=network.__name__, arch=ARCHS[network], out_indices=[1, 3]))).model
    model = build_empty(described)
    assert model.channels == (12, 20) and {p.device.type for p in model.parameters()} == {'meta'}
    assert build_empty(dict(type=network, arch=ARCHS[network])).channels == (8, 12, 16, 20)
    assert {'arch', 'norm_cfg', 'init_cfg', 'with_cp', 'deploy'} <= set(arguments_of(network))
    with pytest.raises(InputError, match=f"{network.__name__} has no argument 'drop_rate'; it takes allow_mismatch, "):
        build_empty(dict(described, drop_rate=0.1))
    assert network_of(dict(type='ResNet')) is None and network_of(nn.Conv2d) is None
