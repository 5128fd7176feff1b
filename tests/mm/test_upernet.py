import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmreplk import reparameterize, reparameterized
from mmreplk.layers.pyramid import PackedPyramidConv2d
from mmreplk.ops.cpu.packed import why_not
from tests.conftest import assert_same_bits, copied_state, randomize

pytestmark = pytest.mark.skipif(why_not(torch.float32) is not None, reason='nothing is packed on this CPU')


def head(**options):
    init_default_scope('mmseg')
    cfg = dict(type='UPerHead', in_channels=[8, 12, 16], in_index=[0, 1, 2], channels=8, num_classes=5,
               align_corners=False, pool_scales=(1, 2, 3), norm_cfg=dict(type='BN'))
    return randomize(MODELS.build(cfg | options)).eval()


def features():
    return [torch.randn(2, c, *size) for c, size in ((8, (17, 22)), (12, (9, 11)), (16, (5, 6)))]


def error(actual, expected):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype
    return (actual - expected).abs().max() / expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize('options', [
    dict(), dict(align_corners=True), dict(in_channels=[8, 16], in_index=[0, 2]), dict(num_classes=2, out_channels=1)
], ids=str)
@pytest.mark.parametrize('dtype', [None, torch.bfloat16][:1 + (why_not(torch.bfloat16) is None)])
def test_a_head_is_packed_for_a_while_and_for_good(options, dtype):
    model, maps = head(**options), features()
    before, expected, norms = copied_state(model), model(maps), 3 + 1 + 2 * (len(model.in_channels) - 1) + 1
    tolerance = 1e-5 if dtype is None else 3e-2
    with reparameterized(model, pack=True, dtype=dtype, check=True) as merged:
        assert merged.batch_norms == norms
        assert isinstance(model.forward.merged.fpn_bottleneck, PackedPyramidConv2d)
        assert error(model(maps), expected) <= tolerance
    assert torch.equal(model(maps), expected)
    assert_same_bits(model.state_dict(), before)
    assert reparameterize(model, pack=True, dtype=dtype).batch_norms == norms
    assert isinstance(model.fpn_bottleneck, PackedPyramidConv2d)
    assert error(model(maps), expected) <= tolerance


@torch.no_grad()
@pytest.mark.parametrize('options', [dict(act_cfg=dict(type='LeakyReLU')), dict(norm_cfg=None),
                                     dict(norm_cfg=dict(type='GN', num_groups=2))], ids=str)
def test_a_head_of_another_kind_computes_the_same(options):
    model, maps = head(**options), features()
    expected = model(maps)
    with reparameterized(model, pack=True, check=True):
        assert error(model(maps), expected) <= 1e-5


def test_gradients_and_training_run_through_the_head_itself():
    model, maps = head(), features()
    wanted = torch.autograd.grad(model(maps).sum(), model.conv_seg.weight)[0]
    inputs = [m.requires_grad_() for m in maps]
    with reparameterized(model, pack=True):
        assert torch.equal(torch.autograd.grad(model(inputs).sum(), model.conv_seg.weight)[0], wanted)
        assert model.train()(features()).requires_grad
