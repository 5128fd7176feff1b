"""Weights of every source, loaded in every way, by real networks that are small."""

import copy

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import load_checkpoint

from mmreplk.mm import RepLKNet, SLaK
from mmreplk.networks.sources import find_backbone
from tests.conftest import assert_same_bits, copied_state
from tests.networks.layouts import LAYOUTS, mmcv_whole_model, mmpretrain, official_classification, ours_whole_model
from tests.networks.tiny import PRETRAINED_XL_LIKE, TINY, XL_LIKE, assert_same_outputs, tiny

TINY_SLAK = dict(layers=[1, 1, 2, 1], channels=[8, 12, 16, 20])


def saved(tmp_path, layout, backbone: dict) -> str:
    path = tmp_path / 'weights.pth'
    torch.save(layout(backbone), path)
    return str(path)


@pytest.mark.parametrize('layout', LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize('form', ['training', 'merged'])
def test_every_source_loads_strictly(layout, form, reports):
    source = tiny()
    if form == 'merged':
        source.reparameterize()
    model = tiny(deploy=form == 'merged')
    given = layout(source.state_dict())
    before = copy.copy(given)
    missing, unexpected = model.load_state_dict(given, strict=True)
    assert not missing and not unexpected and given.keys() == before.keys()
    assert_same_outputs(model, source)
    count = len(source.state_dict())
    assert len(reports) == 1 and f'RepLKNet: {count} of its {count} tensors loaded from ' in reports[0]


@pytest.mark.parametrize('layout', LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_source_loads_by_init_cfg(tmp_path, layout):
    source = tiny()
    path = saved(tmp_path, layout, source.state_dict())
    has_prefix = bool(find_backbone(layout(source.state_dict())).prefix)
    for prefix in [None, 'backbone.'] if has_prefix else [None]:
        model = tiny(init_cfg=dict(type='Pretrained', checkpoint=path, **(dict(prefix=prefix) if prefix else {})))
        model.init_weights()
        assert_same_outputs(model, source)


class Model(BaseModule):

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = torch.nn.Conv2d(1, 1, 1)


@pytest.mark.parametrize('layout', [mmcv_whole_model, mmpretrain, ours_whole_model], ids=lambda layout: layout.__name__)
def test_inside_a_model(tmp_path, layout, reports):
    source, model = tiny(), Model(tiny())
    load_checkpoint(model, saved(tmp_path, layout, source.state_dict()), strict=False)
    assert_same_outputs(model.backbone, source)
    assert len(reports) == 1
    model.load_state_dict(Model(source).state_dict(), strict=True)


@pytest.mark.parametrize(('layout', 'words'), [
    (official_classification, 'an official classification checkpoint; left out: optimizer and 3 more (no weights of '
     "the model), norm.weight and 4 more (the classifier's norm), head.weight and 1 more (the classifier)."),
    (mmcv_whole_model, 'a whole model of MMSegmentation 0.x or MMDetection 2.x; left out: meta and 1 more (no weights '
     'of the model), decode_head.conv_seg.weight and 1 more (no part of the backbone).'),
    (mmpretrain, "mmpretrain's conversion of a classification checkpoint; left out: backbone.stages.3.norm.weight and "
     "4 more (the classifier's norm), head.fc.weight and 1 more (the classifier)."),
    (ours_whole_model, 'a whole model saved by MMEngine; left out: meta and 3 more'),
    (dict, 'a backbone.'),
])
def test_the_report(layout, words, reports):
    model = tiny()
    model.load_state_dict(layout(model.state_dict()))
    assert len(reports) == 1 and words in reports[0], reports


@pytest.mark.parametrize('layout', [mmpretrain, official_classification], ids=lambda layout: layout.__name__)
@pytest.mark.parametrize('prefix', [None, 'backbone.'])
def test_the_norm_of_a_classifier_is_no_norm_of_features(tmp_path, layout, prefix, reports):
    if prefix and layout is official_classification:
        prefix = None
    source = tiny(PRETRAINED_XL_LIKE)
    model = tiny(XL_LIKE)
    before = copied_state(model)
    model.init_cfg = dict(type='Pretrained', checkpoint=saved(tmp_path, layout, source.state_dict()), prefix=prefix)
    model.init_weights()
    norms = {name: tensor for name, tensor in model.state_dict().items() if name.split('.')[2] == 'norm'}
    assert len(norms) == 20
    assert_same_bits(norms, {name: before[name] for name in norms})
    assert 'kept as they were: stages.0.norm.weight and 19 more (a norm of features' in reports[0]
    assert "norm.weight and 4 more (the classifier's norm)" in reports[0].split('left out')[1]
    for name, tensor in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    model.load_state_dict(layout(source.state_dict()), strict=True)


def test_norms_of_features_are_loaded_where_there_are_some():
    source, model = tiny(XL_LIKE), tiny(XL_LIKE)
    model.load_state_dict(mmcv_whole_model(source.state_dict()))
    assert_same_outputs(model, source)
    partly = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith('stages.1.norm.')}
    with pytest.raises(ValueError, match="4 of its .* are missing, the first 'stages.1.norm.weight'"):
        model.load_state_dict(partly, strict=False)
    unread = tiny(XL_LIKE, out_indices=[0, 2, 3])
    unread.load_state_dict(partly)
    assert_same_bits({**unread.state_dict(), **partly}, unread.state_dict())
    with pytest.raises(ValueError, match="20 of the weights are not in it, the first 'stages.0.norm.weight'"):
        tiny(PRETRAINED_XL_LIKE).load_state_dict(source.state_dict(), strict=False)


def test_weights_of_before_counters_and_of_wrapped_models():
    source, model = tiny(), tiny()
    old = {f'module.{k}': v for k, v in source.state_dict().items() if not k.endswith('num_batches_tracked')}
    model.load_state_dict(old)
    assert_same_outputs(model, source)


@pytest.mark.parametrize('form', ['training', 'merged'])
def test_smaller_kernels_are_padded_on_request(form, reports):
    deploy = form == 'merged'
    source = tiny(dict(TINY, large_kernel_sizes=[13, 3, 5, 3]))
    if deploy:
        source.reparameterize()
    sizes = dict(TINY, large_kernel_sizes=[31, 7, 5, 5])
    with pytest.raises(ValueError, match=r"shape \(8, 1, 13, 13\), it needs \(8, 1, 31, 31\).*with "
                       r'large_kernel_sizes \(13, 3, 5, 3\), not \(31, 7, 5, 5\).*resize_kernels=True'):
        tiny(sizes, deploy=deploy).load_state_dict(source.state_dict())
    model = tiny(sizes, deploy=deploy, resize_kernels=True)
    model.load_state_dict(official_classification(source.state_dict()))
    images = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        for a, b in zip(model(images), source(images), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * b.abs().max().item())
    name = 'stages.0.blocks.0.large_kernel.' + ('lkb_reparam.weight' if deploy else 'lkb_origin.conv.weight')
    weight = model.state_dict()[name]
    assert torch.equal(weight[:, :, 9:22, 9:22], source.state_dict()[name])
    assert weight.count_nonzero() == weight[:, :, 9:22, 9:22].count_nonzero()
    assert f'resized: {name} (13x13 zero-padded to 31x31), stages.1' in reports[-1]


def test_larger_kernels_are_cropped_on_request(reports):
    source, model = tiny(), tiny(dict(TINY, large_kernel_sizes=[7, 7, 5, 3]), resize_kernels=True)
    model.load_state_dict(source.state_dict())
    name = 'stages.0.blocks.0.large_kernel.lkb_origin.conv.weight'
    assert torch.equal(model.state_dict()[name], source.state_dict()[name][:, :, 3:10, 3:10])
    assert f'{name} (13x13 cropped to 7x7).' in reports[0]


def test_small_kernels_are_not_resized():
    arch = dict(TINY, large_kernel_sizes=[13, 7, 5, 5], small_kernel=5)
    with pytest.raises(ValueError, match=r'small_conv.conv.weight. has shape .*small_kernel 5, not 3'):
        tiny(resize_kernels=True).load_state_dict(tiny(arch).state_dict())


def test_a_mismatch_is_an_error_unless_allowed(reports):
    source = tiny()
    shallow, five = dict(TINY, layers=[1, 1, 1, 1]), tiny(in_channels=5)
    with pytest.raises(ValueError, match=r"46 of the weights are not in it, the first 'stages.2.blocks.2.*layers"):
        tiny(shallow).load_state_dict(source.state_dict(), strict=False)
    with pytest.raises(ValueError, match=r"'stem.0.conv.weight' has shape \(8, 5, 3, 3\), it needs \(8, 3"):
        tiny().load_state_dict(five.state_dict(), strict=False)
    with pytest.raises(ValueError, match=r"38 of its 290 .* the first 'stages.2.blocks.2.*layers \(1, 1, 1, 1\), not"):
        tiny().load_state_dict(tiny(shallow).state_dict(), strict=False)
    assert not reports
    tiny(shallow, allow_mismatch=['stages.2.blocks.']).load_state_dict(source.state_dict())
    assert 'left out: stages.2.blocks.2.pw1.conv.weight and 45 more (not in this RepLKNet' in reports[-1]
    model = tiny(allow_mismatch=['stem.0.'])
    before = copied_state(model)
    model.load_state_dict(five.state_dict())
    assert torch.equal(model.state_dict()['stem.0.conv.weight'], before['stem.0.conv.weight'])
    assert torch.equal(model.state_dict()['stem.0.bn.weight'], five.state_dict()['stem.0.bn.weight'])
    assert '289 of its 290 ' in reports[-1] and 'kept as they were: stem.0.conv.weight (of another shape' in reports[-1]
    tiny(allow_mismatch=['stages.2.blocks.2', 'stages.2.blocks.3']).load_state_dict(tiny(shallow).state_dict())
    assert 'kept as they were: stages.2.blocks.2.pw1.conv.weight and 37 more (not among the weights' in reports[-1]
    with pytest.raises(ValueError, match="allow_mismatch must be a list of beginnings of tensor names, got 'stem'"):
        RepLKNet(TINY, allow_mismatch='stem')


@pytest.mark.parametrize('form', ['training', 'merged'])
def test_weights_that_do_not_fit_are_refused(form):
    model, other = tiny(), tiny(dict(TINY, channels=[8, 12, 16, 24]))
    model.reparameterize() if form == 'merged' else None
    before = copied_state(model)
    wrong = [
        (dict(model.state_dict()), 'stem.0.conv.weight', "are missing, the first 'stem.0.conv.weight'"),
        (tiny(deploy=form != 'merged').state_dict(), None, 'merged' if form == 'training' else 'training form'),
        ({}, None, 'do not fit this RepLKNet.*no tensor at all'),
        (torch.nn.Conv2d(3, 8, 3).state_dict(), None, "do not fit this RepLKNet.*They begin with 'bias', 'weight'"),
    ]
    other.reparameterize() if form == 'merged' else None
    wrong.append((other.state_dict(), None, r'has shape .*with channels \(8, 12, 16, 24\), not \(8, 12, 16, 20\)'))
    for given, dropped, words in wrong:
        given.pop(dropped, None)
        for strict in (True, False):
            with pytest.raises(ValueError, match=words):
                model.load_state_dict(given, strict=strict)
    assert_same_bits(model.state_dict(), before)


def test_a_kernel_that_is_cropped_one_way_and_padded_the_other_says_both(reports):
    slak = SLaK(dict(TINY_SLAK, large_kernel_sizes=[13, 9, 7, 5]), resize_kernels=True)
    weights = SLaK(dict(TINY_SLAK, large_kernel_sizes=[15, 9, 7, 5])).state_dict()
    strip = next(name for name, tensor in weights.items() if tensor.shape[-2:] == (15, 5))
    weights[strip] = weights[strip][..., 1:-1]
    slak.load_state_dict(weights)
    assert '15x3 cropped and zero-padded to 13x5' in reports[-1]
