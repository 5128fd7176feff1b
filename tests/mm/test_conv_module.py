"""MMCV's layers, accelerated and folded."""

import copy

import mmcv.cnn
import pytest
import torch
from mmcv.cnn import ConvModule, DepthwiseSeparableConvModule
from torch import nn

from mmreplk import accelerate, reparameterized, restore
from mmreplk.mm.conv_module import AcceleratedMMCVConv2d
from tests.conftest import randomize


def test_the_convolution_of_mmcv_is_accelerated_and_restored():
    model = nn.Sequential(mmcv.cnn.Conv2d(8, 8, 31, padding=15, groups=8), mmcv.cnn.Conv2d(8, 8, 1))
    x = torch.randn(1, 8, 48, 48)
    expected = model(x)
    assert accelerate(model) == ['0'] and type(model[0]) is AcceleratedMMCVConv2d
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-5)
    assert restore(copy.deepcopy(model)) == restore(model) == ['0'] and type(model[0]) is mmcv.cnn.Conv2d


@pytest.mark.parametrize('conv_cfg', [None, dict(type='Conv')], ids=['PyTorch', 'MMCV'])
def test_accelerated_layers_are_folded(conv_cfg):
    settings = dict(norm_cfg=dict(type='BN'), conv_cfg=conv_cfg)
    layers = ConvModule(3, 8, 3, **settings), DepthwiseSeparableConvModule(8, 8, 13, padding=6, **settings)
    model = randomize(nn.Sequential(*layers)).eval()
    x = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        expected = model(x)
        assert accelerate(model) == ['1.depthwise_conv.conv']
        with reparameterized(model) as merged:
            assert merged.batch_norms == 3
            torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
