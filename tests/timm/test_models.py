import copy
import dataclasses
import io
from argparse import Namespace

import pytest
import torch

from mmreplk.errors import InputError
from mmreplk.networks import NETWORKS
from mmreplk.weights import PUBLISHED
from tests.conftest import assert_same_bits, randomize

ALL = [f'{name}_{arch}'.lower() for name, network in NETWORKS.items() for arch in network.Arch.NAMED]
each = pytest.mark.parametrize('variant, network', [('replknet_31b', 'RepLKNet'), ('unireplknet_a', 'UniRepLKNet'),
                                                    ('slak_t', 'SLaK')])


@pytest.fixture
def small(monkeypatch):
    """Makes two of them small, which would be so slow otherwise."""
    for network, arch in (('RepLKNet', '31B'), ('SLaK', 'T')):
        named = NETWORKS[network].Arch.NAMED
        tiny = dict(layers=(1, 1, 2, 1), channels=(8, 16, 24, 32), large_kernel_sizes=(13, 11, 9, 7), small_kernel=5)
        monkeypatch.setitem(named, arch, NETWORKS[network].Arch(**tiny))


def create(timm, *args, **kwargs):
    """Creates a model whose branches and layer scales matter."""
    model = randomize(timm.create_model(*args, **kwargs))
    for name, parameter in model.named_parameters():
        if name.endswith('.gamma'):
            torch.nn.init.uniform_(parameter, .5, 1.5)
    return model.eval()


def test_all_are_registered(timm):
    assert len(ALL) == 15
    assert set(ALL) <= set(timm.list_models())
    assert all(timm.is_model(variant) for variant in ALL)


@pytest.mark.parametrize('variant', ALL)
def test_all_tell_their_features_and_classes(timm, variant):
    with torch.device('meta'):
        features = timm.create_model(variant, features_only=True)
        classifier = timm.create_model(variant)
        outs = features(torch.empty(1, 3, 64, 64))
        assert [out.shape[1] for out in outs] == features.feature_info.channels()
        assert [64 // out.shape[2] for out in outs] == features.feature_info.reduction() == [4, 8, 16, 32]
        tag = classifier.pretrained_cfg['tag'].replace('_', '-')
        published = PUBLISHED[f'{variant.replace("_", "-")}_{tag}']
        assert classifier.head.out_features == published.classes
        assert classifier.pretrained_cfg['url'] == published.url


@each
def test_features_are_those_of_the_network(timm, small, variant, network):
    model = create(timm, variant, features_only=True, in_chans=4, drop_path_rate=.2)
    backbone = NETWORKS[network](model.model.arch, in_channels=4, drop_path_rate=.2).eval()
    backbone.load_state_dict(model.model.state_dict())
    images = torch.randn(1, 4, 64, 96)
    for actual, expected in zip(model(images), backbone(images), strict=True):
        assert torch.equal(actual, expected)
    rates = [module.rate for module in model.modules() if type(module).__name__ == 'DropPath']
    assert max(rates) == .2


@pytest.mark.parametrize('out_indices, expected', [(None, [0, 1, 2, 3]), (2, [2, 3]), ((1, -1), [1, 3]),
                                                   ([-2], [2])])
def test_out_indices(timm, out_indices, expected):
    model = timm.create_model('unireplknet_a', features_only=True, out_indices=out_indices)
    assert model.feature_info.out_indices == tuple(expected)
    assert [out.shape[1] for out in model(torch.randn(1, 3, 64, 64))] == [40 * 2**i for i in expected]
    assert model.feature_info.channels() == [40 * 2**i for i in expected]


@pytest.mark.parametrize('arguments, sentence', [
    (dict(features_only=True, out_indices=0), 'out_indices must be'),
    (dict(features_only=True, out_indices=5), 'out_indices must be'),
    (dict(features_only=True, out_indices=(4, )), 'out_indices must be'),
    (dict(features_only=True, output_stride=8), 'output_stride must be 32'),
    (dict(global_pool='max'), "global_pool must be 'avg'"),
    (dict(drop_path_rate=2), r'drop_path_rate must be in \[0, 1\)'),
])
def test_what_there_is_not(timm, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        timm.create_model('unireplknet_a', **arguments)


@each
@pytest.mark.parametrize('arguments', [dict(features_only=True), dict(num_classes=7)], ids=str)
def test_reparameterize_model(timm, small, variant, network, arguments):
    model, images = create(timm, variant, **arguments), torch.randn(1, 3, 64, 64)
    before = copy.deepcopy(model.state_dict())
    merged = timm.utils.reparameterize_model(model)
    assert_same_bits(model.state_dict(), before)
    backbone = merged.model if 'features_only' in arguments else merged.backbone
    assert backbone.form_of(backbone.state_dict()) == 'folded'
    with torch.no_grad():
        for actual, expected in zip(merged(images), model(images), strict=True):
            assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()
    timm.utils.reparameterize_model(merged, inplace=True)


def test_classifier_has_what_timm_asks_of_one(timm):
    model = timm.create_model('unireplknet_a', num_classes=5, drop_rate=.5)
    assert (model.num_classes, model.num_features, model.head_hidden_size) == (5, 320, 320)
    assert model.get_classifier() is model.head
    model.reset_classifier(3)
    assert model.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 3)
    model.set_grad_checkpointing()
    model.train()(torch.randn(2, 3, 64, 64, requires_grad=True)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_layers_for_decay(timm):
    from timm.optim import create_optimizer_v2
    model = timm.create_model('unireplknet_t')
    optimizer = create_optimizer_v2(model, opt='adamw', lr=1., weight_decay=.05, layer_decay=.5)
    rates = {id(parameter): group['lr_scale'] for group in optimizer.param_groups for parameter in group['params']}
    own = {name: rates[id(parameter)] for name, parameter in model.named_parameters()}
    depth = model.backbone.num_layers
    assert own['head.weight'] == own['norm.weight'] == 1
    assert own['backbone.downsample_layers.0.0.weight'] == .5**(depth + 1)
    assert own['backbone.stages.3.2.gamma'] == .5


@pytest.fixture
def publish(server, torch_cache, monkeypatch):
    """Returns what puts weights onto this machine's server, in the place of published ones."""

    def put(name: str, weights: dict) -> None:
        file = io.BytesIO()
        torch.save(weights, file)
        server.files[f'/{name}.pth'] = data = file.getvalue()
        entry = dataclasses.replace(PUBLISHED[name], url=f'{server.url}/{name}.pth', size=len(data), sha256=None)
        monkeypatch.setitem(PUBLISHED, name, entry)

    return put


def test_pretrained_goes_by_the_table_of_weights(timm, publish, torch_cache):
    weights = create(timm, 'unireplknet_a').state_dict()
    publish('unireplknet-a_in1k', dict(model=weights, args=Namespace(lr=.1)))
    assert_same_bits(timm.create_model('unireplknet_a', pretrained=True).state_dict(), weights)
    assert (torch_cache / 'unireplknet-a_in1k.pth').is_file()
    assert_same_bits(timm.create_model('unireplknet_a.in1k', pretrained=True).state_dict(), weights)
    features = timm.create_model('unireplknet_a', pretrained=True, features_only=True).model.state_dict()
    taken = {name: tensor for name, tensor in features.items() if not name.startswith('norm')}
    assert_same_bits(taken, {name: weights[name] for name in taken})
    assert len(taken) == len(weights) - 4


@each
def test_pretrained_for_other_classes_and_channels(timm, small, publish, variant, network):
    weights = create(timm, variant).state_dict()
    name = f'{variant.replace("_", "-")}_in1k'
    publish(name, weights)
    model = timm.create_model(variant, pretrained=True, num_classes=4, in_chans=1)
    stem = 'stem.0.conv.weight' if network == 'RepLKNet' else 'downsample_layers.0.0.weight'
    own = model.state_dict()
    assert torch.allclose(own[stem], weights[stem].sum(1, keepdim=True), atol=1e-6)
    same = [name for name in own if name != stem and not name.startswith('head.')]
    assert_same_bits({name: own[name] for name in same}, {name: weights[name] for name in same})
    assert own['head.weight'].shape[0] == 4
    features = timm.create_model(variant, pretrained=True, features_only=True, in_chans=1)
    assert torch.allclose(features.state_dict()[f'model.{stem}'], own[stem])


def test_pretraining_without_known_classes(timm, small, publish):
    weights = create(timm, 'replknet_31b', num_classes=9).state_dict()
    publish('replknet-31b_in22k', weights)
    model = timm.create_model('replknet_31b.in22k', pretrained=True)
    assert model.num_classes == 0
    assert_same_bits(model.state_dict(), {n: t for n, t in weights.items() if not n.startswith('head.')})


def test_weights_of_ones_own_in_timms_way(timm, tmp_path):
    weights = create(timm, 'unireplknet_a', num_classes=3).state_dict()
    torch.save(weights, tmp_path / 'own.pth')
    overlay = dict(file=str(tmp_path / 'own.pth'), num_classes=3)
    model = timm.create_model('unireplknet_a', pretrained=True, pretrained_cfg_overlay=overlay, num_classes=3)
    assert_same_bits(model.state_dict(), weights)
    model = timm.create_model('unireplknet_a', checkpoint_path=str(tmp_path / 'own.pth'), num_classes=3)
    assert_same_bits(model.state_dict(), weights)


def test_no_network(timm, publish, torch_cache, server):
    publish('unireplknet-a_in1k', {})
    server.files.clear()
    with pytest.raises(InputError, match="the weights 'unireplknet-a_in1k' cannot be downloaded"):
        timm.create_model('unireplknet_a', pretrained=True)
