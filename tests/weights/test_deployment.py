import copy

import pytest
import torch
from torch import nn

from mmreplk import InputError, RepLKNet
from mmreplk.weights.conversion import reparameterize_checkpoint
from tests.conftest import assert_same_bits, randomize
from tests.networks import layouts
from tests.networks.tiny import TINY, tiny


def deployed(checkpoint, fuse_bn, prefix=''):
    model = RepLKNet(TINY, deploy=True, fuse_bn=fuse_bn).eval()
    weights = {k.removeprefix(prefix): v for k, v in checkpoint['state_dict'].items() if k.startswith(prefix)}
    model.to(weights['stem.0.conv.weight'].dtype).load_state_dict(weights, strict=True)
    return model


def assert_close(model, source):
    x = torch.randn(1, 3, 64, 64)
    for actual, expected in zip(model(x), source.eval()(x), strict=True):
        assert (actual - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize('fuse_bn', [False, True])
@pytest.mark.parametrize('layout', layouts.LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_source_is_deployed(layout, fuse_bn):
    source = randomize(tiny())
    saved = layout(source.state_dict())
    merged = reparameterize_checkpoint(saved, fuse_bn)
    is_whole = layout in (layouts.mmcv_whole_model, layouts.ours_whole_model)
    assert_close(deployed(merged, fuse_bn, 'backbone.' if is_whole else ''), source)
    assert merged['meta']['reparameterized'] == ('folded' if fuse_bn else 'merged')
    if is_whole:
        assert merged['meta']['iter'] == saved['meta']['iter'] and set(merged) == {'meta', 'state_dict'}
        assert torch.equal(merged['state_dict']['decode_head.conv_seg.weight'],
                           saved['state_dict']['decode_head.conv_seg.weight'])


def test_half_precision_and_eps():
    source = randomize(tiny())
    for module in source.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.1
    merged = reparameterize_checkpoint(layouts.ours_backbone(source.state_dict()), fuse_bn=True, eps=0.1)
    assert_close(deployed(merged, True), source)
    source.bfloat16()
    merged = reparameterize_checkpoint(layouts.ours_backbone(source.state_dict()), eps=0.1)
    assert {t.dtype for t in merged['state_dict'].values() if t.is_floating_point()} == {torch.bfloat16}
    source.reparameterize()
    assert_same_bits(deployed(merged, False).state_dict(), source.state_dict())


def test_half_precision_on_the_disk():
    source = randomize(tiny())
    saved = layouts.ours_whole_model(source.state_dict())
    halved = reparameterize_checkpoint(saved, fuse_bn=True, half=True)
    for name, tensor in reparameterize_checkpoint(saved, fuse_bn=True)['state_dict'].items():
        expected = tensor.half() if tensor.is_floating_point() else tensor
        assert torch.equal(halved['state_dict'][name], expected) and halved['state_dict'][name].dtype == expected.dtype
    saved['state_dict']['decode_head.conv_seg.weight'][0] = 7e4
    with pytest.raises(InputError, match="'decode_head.conv_seg.weight' holds 7e[+]04, and float16 ends at 65504"):
        reparameterize_checkpoint(saved, fuse_bn=True, half=True)


def test_averaged_weights():
    trained, averaged = randomize(tiny()), randomize(tiny())
    # MMEngine's EMAHook saves the averaged weights in the place of the trained ones.
    mmengine = layouts.ours_backbone(averaged.state_dict()) | dict(ema_state_dict=trained.state_dict())
    official = layouts.official_classification(trained.state_dict()) | dict(model_ema=averaged.state_dict())
    for saved in (mmengine, official):
        assert_close(deployed(reparameterize_checkpoint(saved, ema=True), False), averaged)
    assert_close(deployed(reparameterize_checkpoint(official), False), trained)
    with pytest.raises(InputError, match='has no averaged weights'):
        reparameterize_checkpoint(layouts.ours_backbone(trained.state_dict()), ema=True)


def test_what_is_merged_already():
    model = randomize(tiny())
    source = copy.deepcopy(model)
    model.reparameterize()
    saved = layouts.ours_backbone(model.state_dict())
    with pytest.raises(InputError, match='it is merged already, and fuse_bn is not set'):
        reparameterize_checkpoint(saved)
    folded = reparameterize_checkpoint(saved, fuse_bn=True)
    assert_close(deployed(folded, True), source)
    with pytest.raises(InputError, match='it is folded already'):
        reparameterize_checkpoint(folded, fuse_bn=True)
    with pytest.raises(InputError, match=r'merged and folded.*load them into RepLKNet\(deploy=True, fuse_bn=True\)'):
        RepLKNet(TINY, deploy=True).load_state_dict(folded['state_dict'])
    with pytest.raises(InputError, match='it holds none of RepLKNet, UniRepLKNet, SLaK'):
        reparameterize_checkpoint(dict(state_dict=nn.Linear(2, 2).state_dict()))
