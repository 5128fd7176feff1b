import pytest
import torch

from mmreplk import RepLKNet
from mmreplk.networks.replknet import Arch
from mmreplk.weights import read_checkpoint
from mmreplk.weights.conversion import convert, describe
from tests.networks import layouts
from tests.networks.tiny import PRETRAINED_XL_LIKE, TINY, assert_same_outputs, tiny


@pytest.mark.parametrize('layout', layouts.LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_source_becomes_ours(tmp_path, layout):
    source, model, path = tiny(), tiny(), tmp_path / 'out.pth'
    convert(layout(source.state_dict()), path)
    written = read_checkpoint(path)
    assert set(written) == {'meta', 'state_dict'}
    is_whole = layout in (layouts.mmcv_whole_model, layouts.ours_whole_model)
    names = layout(source.state_dict())['state_dict'] if is_whole else source.state_dict()
    assert list(written['state_dict']) == list(names)
    model.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    model.init_weights()
    assert_same_outputs(model, source)


def test_what_is_shown():
    backbone = tiny().state_dict()
    shown = describe(layouts.official_classification(backbone))
    assert shown['source'] == 'official classification checkpoint'
    assert shown['network'] == 'RepLKNet of another architecture, training form, 3 input channels'
    assert shown['sizes'] == ('layers (1, 1, 2, 1), channels (8, 12, 16, 20), large_kernel_sizes (13, 7, 5, 3), '
                              'small_kernel 3, dw_ratio 1.0, ffn_ratio 4.0, norm_intermediate_features False')
    numbers = sum(t.numel() for t in backbone.values()) / 1e6
    assert shown['backbone'] == f'{len(backbone)} tensors of {numbers:.1f} million numbers, float32'
    assert "head.weight and 1 more (the classifier)" in shown['left out'] and shown['kept'] == 'the backbone'
    shown = describe(layouts.mmcv_whole_model(tiny().half().state_dict()))
    assert shown['kept'].startswith(f'the whole model, {len(backbone) + 2} tensors') and 'float16' in shown['kept']
    assert "iter=160000" in shown['meta'] and shown['left out'] == 'optimizer (no weights of the model)'
    merged = tiny()
    merged.reparameterize()
    assert ', merged form, ' in describe(layouts.ours_backbone(merged.state_dict()))['network']


@pytest.mark.parametrize('form', ['training', 'merged'])
@pytest.mark.parametrize('name', Arch.NAMED)
def test_published_architectures_are_recognized(name, form):
    with torch.device('meta'):
        weights = RepLKNet(name, deploy=form == 'merged').state_dict()
    assert Arch.of_weights(weights).name == name
    without = {k: v for k, v in weights.items() if '.norm.' not in k}
    assert describe(layouts.mmpretrain(without))['network'] == f'RepLKNet {name}, {form} form, 3 input channels'


def test_meta_that_others_cannot_read_is_left_out(tmp_path):
    saved = layouts.ours_whole_model(tiny(PRETRAINED_XL_LIKE).state_dict())
    saved['meta'].update(seed=3, config=object(), hooks=[dict(a=1), (None, 2.5)], bad=[{1: object()}])
    assert describe(saved)['meta left out'] == 'config, bad'
    convert(saved, tmp_path / 'x.pth')
    assert read_checkpoint(tmp_path / 'x.pth')['meta'] == dict(
        epoch=1, iter=4, mmengine_version='0.10.7', seed=3, hooks=[dict(a=1), (None, 2.5)])


def test_what_is_not_a_whole_network_is_not_converted(tmp_path):
    weights, path = tiny().state_dict(), tmp_path / 'x.pth'
    wrong = [
        (torch.nn.Linear(1, 1).state_dict(), "it holds none of .*; its tensors begin with 'bias', 'weight'"),
        ({}, 'no tensor at all'),
        ({k: v for k, v in weights.items() if k != 'stem.1.bn.bias'}, "the first 'stem.1.bn.bias'"),
        ({k: v for k, v in weights.items() if 'stages.1.blocks.0' not in k}, 'none of RepLKNet, UniRepLKNet, SLaK'),
    ]
    for saved, words in wrong:
        with pytest.raises(ValueError, match=words):
            convert(saved, path)
    assert not path.exists()
    path.write_text('mine')
    with pytest.raises(ValueError, match="x.pth' exists; --force replaces it"):
        convert(weights, path)
    assert path.read_text() == 'mine'
    convert(weights, path, force=True)
    assert Arch.of_weights(read_checkpoint(path)['state_dict']) == Arch.parse(TINY)
