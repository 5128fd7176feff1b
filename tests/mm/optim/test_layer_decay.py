"""The official layer decay, derived here once more from its table rather than from our numbering."""

import re

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmreplk import InputError, RepLKNet, SLaK, UniRepLKNet
from tests.mm.hooks.classifier import Classifier, make_runner

LR, WEIGHT_DECAY, RATE = 4e-4, 0.05, 0.7
CFG = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=LR, weight_decay=WEIGHT_DECAY),
    constructor='RepLKNetLayerDecayConstructor',
    paramwise_cfg=dict(decay_rate=RATE))
# Two blocks are a RepLKBlock and a ConvFFN; the comment in the official optim_factory.py as patterns.
OFFICIAL = {
    r'stem\.': 0,
    r'(stages\.0\.blocks\.[0-3]|transitions\.0)\.': 1,
    r'(stages\.1\.blocks\.[0-3]|transitions\.1)\.': 2,
    r'stages\.2\.blocks\.[0-3]\.': 3,
    r'stages\.2\.blocks\.[4-7]\.': 4,
    r'stages\.2\.blocks\.([89]|1[01])\.': 5,
    r'stages\.2\.blocks\.1[2-5]\.': 6,
    r'stages\.2\.blocks\.1[6-9]\.': 7,
    r'stages\.2\.blocks\.2[0-3]\.': 8,
    r'stages\.2\.blocks\.2[4-7]\.': 9,
    r'stages\.2\.blocks\.(2[89]|3[01])\.': 10,
    r'(stages\.2\.blocks\.3[2-5]|transitions\.2)\.': 11,
    r'stages\.3\.blocks\.[0-3]\.': 12,
}


class Segmentor(nn.Module):

    def __init__(self, **options):
        super().__init__()
        self.backbone = RepLKNet(**options)
        self.head = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))


def groups_by_name(model: nn.Module, cfg: dict = CFG) -> dict[str, tuple[float, float]]:
    wrapper = build_optim_wrapper(model, cfg)
    found = {id(p): (group['lr'], group['weight_decay']) for group in wrapper.optimizer.param_groups
             for p in group['params']}
    return {name: found.pop(id(p)) for name, p in model.named_parameters() if id(p) in found} | {'': len(found)}


@pytest.mark.parametrize('arch', ['31B', 'XL'])
def test_groups_are_the_official_ones(arch):
    with torch.device('meta'):
        model = Segmentor(arch=arch, out_indices=[3])
    groups = groups_by_name(model)
    assert groups.pop('') == 0
    assert list(groups) == [name for name, _ in model.named_parameters()]
    for name, (lr, weight_decay) in groups.items():
        own = name.removeprefix('backbone.')
        layers = [layer for pattern, layer in OFFICIAL.items() if own != name and re.match(pattern, own)]
        is_new = name.startswith('head.') or re.match(r'stages\.\d\.norm\.', own)
        assert len(layers) == (0 if is_new else 1), name
        assert lr == pytest.approx(LR * RATE**(13 - (layers[0] if layers else 13)), rel=1e-12), name
        flat = any(part in name for part in ('bn.', 'norm.', 'head.1.')) or name.endswith('.bias')
        assert weight_decay == (0 if flat else WEIGHT_DECAY), name


def test_other_depths_are_numbered_alike():
    with torch.device('meta'):
        model = RepLKNet(dict(layers=[1, 3, 4, 1], channels=[4, 8, 8, 8], large_kernel_sizes=[3, 3, 3, 3],
                              norm_intermediate_features=True), deploy=True)
    assert model.num_layers == 1 + 2 + 2 + 1
    names = ['stem.3.bn.bias', 'stages.0.blocks.1.pw1.conv.weight', 'transitions.0.0.conv.weight',
             'stages.1.blocks.3.pw1.conv.weight', 'stages.1.blocks.4.pw1.conv.weight', 'transitions.1.1.bn.weight',
             'stages.2.blocks.0.prelkb_bn.bias', 'stages.2.blocks.7.pw2.conv.weight', 'transitions.2.0.conv.weight',
             'stages.3.blocks.0.large_kernel.lkb_reparam.weight', 'stages.3.norm.weight']
    assert [model.get_layer_depth(name) for name in names] == [(i, 8) for i in (0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7)]


# ConvNeXt's layer_decay_optimizer_constructor.py, which both official codes use, for 27 blocks in the third stage.
CONVNEXT = {
    r'downsample_layers\.0\.': 0,
    r'stages\.0\.': 1,
    r'(downsample_layers\.1|stages\.1)\.': 2,
    r'(downsample_layers\.2|stages\.2\.[0-2])\.': 3,
    **{rf'stages\.2\.({3 * i}|{3 * i + 1}|{3 * i + 2})\.': 3 + i for i in range(1, 9)},
    r'(downsample_layers\.3|stages\.3)\.': 12,
    r'norm\d\.': 13,
}


@pytest.mark.parametrize('network', [UniRepLKNet, SLaK])
def test_groups_of_the_convnext_kind_are_the_official_ones(network):
    with torch.device('meta'):
        model = network('S')
    depths = model.layer_depths()
    for name, _ in model.named_parameters():
        (layer, ) = [layer for pattern, layer in CONVNEXT.items() if re.match(pattern, name)]
        assert depths[name] == layer, name
    assert model.get_layer_depth('stages.0.0.norm.weight') == (1, 14)
    stage_wise = dict(CFG, paramwise_cfg=dict(decay_rate=.9, decay_type='stage_wise', num_layers=6))
    groups = groups_by_name(model, stage_wise)
    for name, parameter in model.named_parameters():
        stage = re.match(r'stages\.(\d)', name)
        layer = 7 if name.startswith('norm') else int(stage[1]) + 1 if stage else 0
        decays = parameter.ndim > 1 and not name.endswith('bias')
        assert groups[name] == (pytest.approx(LR * .9**(7 - layer)), WEIGHT_DECAY * decays), name


def test_a_small_network_takes_the_layers_of_a_large_one():
    """As the official config for T on COCO: 12 layers where it has 9, and the last of them is the twelfth."""
    with torch.device('meta'):
        model = UniRepLKNet('T')
    groups = groups_by_name(model, dict(CFG, paramwise_cfg=dict(decay_rate=.8, num_layers=12)))
    for name, layer in {'downsample_layers.0.0.weight': 0, 'stages.1.0.gamma': 2, 'stages.2.17.gamma': 8,
                        'downsample_layers.3.0.weight': 12, 'stages.3.2.gamma': 12, 'norm3.weight': 13}.items():
        assert groups[name][0] == pytest.approx(LR * .8**(13 - layer)), name
    with pytest.raises(InputError, match='num_layers must be at least 9, the layers of this UniRepLKNet, got 8'):
        groups_by_name(model, dict(CFG, paramwise_cfg=dict(decay_rate=.8, num_layers=8)))


def test_it_trains_from_a_config_line_under_a_schedule(tmp_path):
    runner = make_runner(tmp_path, max_iters=2, param_scheduler=[dict(type='ConstantLR', factor=0.5, by_epoch=False)])
    plain = [group['lr'] for group in runner.build_optim_wrapper(dict(CFG)).optimizer.param_groups]
    assert len(plain) == 8 and min(plain) == pytest.approx(LR * RATE**3)
    runner = make_runner(tmp_path, max_iters=2)
    runner.optim_wrapper = dict(CFG)
    before = runner.model.backbone.stem[0].conv.weight.detach().clone()
    runner.train()
    assert not torch.equal(runner.model.backbone.stem[0].conv.weight, before)
    assert [group['lr'] for group in runner.optim_wrapper.optimizer.param_groups] == plain


def test_wrapped_models_and_frozen_stages(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model = Classifier(RepLKNet(
            dict(large_kernel_sizes=[7, 5], layers=[1, 1], channels=[4, 8]), out_indices=[1], frozen_stages=1))
        expected = groups_by_name(model)
        wrapped = groups_by_name(MMDistributedDataParallel(model))
    finally:
        torch.distributed.destroy_process_group()
    assert {name.removeprefix('module.'): group for name, group in wrapped.items()} == expected
    assert 'backbone.stem.0.conv.weight' not in expected and 'backbone.transitions.0.0.conv.weight' in expected


def test_a_backbone_alone_and_no_weight_decay():
    arch = dict(large_kernel_sizes=[7], layers=[1], channels=[4])
    cfg = dict(CFG, optimizer=dict(type='SGD', lr=LR))
    groups = groups_by_name(RepLKNet(arch, out_indices=[0]), cfg)
    assert groups['stem.0.conv.weight'] == (pytest.approx(LR * RATE**2), 0)


@pytest.mark.parametrize(('cfg', 'words'), [
    (dict(CFG, paramwise_cfg=dict(decay_rate=0)), r'paramwise_cfg must be dict\(decay_rate=...\).*decay_rate.: 0'),
    (dict(CFG, paramwise_cfg=dict(decay_rate=0.7, layers=12)), 'paramwise_cfg must be'),
    (dict(CFG, paramwise_cfg=dict(decay_rate=0.7, num_layers=1.5)), 'num_layers must be a positive .* got 1.5'),
    ({k: v for k, v in CFG.items() if k != 'paramwise_cfg'}, 'paramwise_cfg must be .* got None'),
    (dict(CFG, paramwise_cfg=dict(decay_rate=0.7, decay_type='blocks')), "must be 'layer_wise' or .* got 'blocks'"),
    (dict(CFG, paramwise_cfg=dict(decay_rate=0.7, decay_type='stage_wise')), 'paramwise_cfg must be .*num_layers=...'),
    (dict(CFG, paramwise_cfg=dict(decay_rate=0.7, decay_type='stage_wise', num_layers=0)), 'num_layers must be a pos'),
    (dict(CFG, optimizer=dict(type='AdamW')), 'the optimizer needs a learning rate lr to decay'),
])
def test_what_it_needs_is_named(cfg, words):
    with pytest.raises(ValueError, match=words):
        build_optim_wrapper(Classifier(), cfg)
    with pytest.raises(ValueError, match='needs a model with a large-kernel network, got Linear'):
        build_optim_wrapper(nn.Linear(1, 1), CFG)
