import json

import pytest
import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.registry import MODELS
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmreplk.benchmarks import count_flops
from mmreplk.mm.building import build_empty_model
from mmreplk.mm.config import load_config
from mmreplk.ops import depthwise_conv2d
from tests.configs.narrowing import config_of, inputs, narrow
from tests.tools.conftest import TINY
from tests.tools.processes import ROOT, tool


def count(small_kernel, *sizes, shape=(64, 128)):
    cfg = load_config(str(ROOT / TINY), {
        'model.backbone.arch.large_kernel_sizes': list(sizes),
        'model.backbone.arch.small_kernel': small_kernel
    })
    return count_flops(build_empty_model(cfg), shape)


def traced(model, image):
    """What MMEngine's analysis, and with it the frameworks' own ``analysis_tools/get_flops.py``, makes of a model."""
    return FlopAnalyzer(model.eval(), image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)


def test_large_kernels_count_their_taps():
    pytest.importorskip('mmseg')
    # Layers 1, 1, 3, 1 of channels 32, 64, 128, 256 on maps of 16x32, 8x16, 4x8 and 2x4.
    taps = [32 * 512, 64 * 128, 3 * 128 * 32, 256 * 8]
    plain, large, both = count(None, 3, 3, 3, 3), count(None, 31, 29, 27, 13), count(5, 31, 29, 27, 13)
    assert large['flops'] - plain['flops'] == sum(
        n * (k * k - 9) for n, k in zip(taps, (31, 29, 27, 13), strict=True))
    assert both['flops'] - large['flops'] == sum(n * 25 for n in taps), 'the small branch'
    assert large['parts'].keys() == {'backbone', 'decode_head'}
    assert large['parts']['backbone']['params'] - plain['parts']['backbone']['params'] == sum(
        n * c * (k * k - 9) for n, c, k in zip((1, 1, 3, 1), (32, 64, 128, 256), (31, 29, 27, 13), strict=True))


def test_mmengines_analysis_counts_the_operator_as_a_convolution():

    class Depthwise(nn.Conv2d):

        def forward(self, x):
            return depthwise_conv2d(x, self.weight, self.bias)

    layer = Depthwise(16, 16, 31, padding=15, groups=16)
    x = torch.rand(2, 16, 64, 48)
    with torch.no_grad():
        counted = traced(layer, x).by_operator()
    layer.__class__ = nn.Conv2d
    assert counted == traced(layer, x).by_operator() == dict(conv=2 * 16 * 64 * 48 * 31 * 31)


def test_mmengines_analysis_agrees():
    """But for what it counts beside convolutions: norms, pooling, interpolation."""
    pytest.importorskip('mmseg')
    cfg = load_config(str(ROOT / TINY))
    empty, model = build_empty_model(cfg), MODELS.build(cfg.model)
    for form in ('two branches', 'merged'):
        counted = traced(model, torch.rand(1, 3, 64, 128)).by_operator()
        assert counted['conv'] == count_flops(empty, (64, 128))['flops'], form
        assert set(counted) == {'conv', 'batch_norm', 'adaptive_avg_pool2d', 'upsample_bilinear2d'}
        for one in (empty, model):
            one.backbone.reparameterize(fuse_bn=True)


@pytest.mark.parametrize('name', ['mask2former_replknet31b_ade20k', 'dino_unireplknet_l_coco_in22k'])
def test_transformers_count_what_a_prediction_computes(name):
    pytest.importorskip('mmdet')
    cfg = config_of(name)
    narrow(cfg)
    figures, model = count_flops(build_empty_model(cfg), (64, 64)), MODELS.build(cfg.model).eval()
    assert figures['flops'] == sum(part['flops'] for part in figures['parts'].values())
    assert figures['params'] == sum(p.numel() for p in model.parameters())
    assert count_flops(model, (64, 64)) == figures, 'with numbers as without'
    images, samples = (both[:1] for both in inputs(cfg))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images, samples, mode='predict')
    # A map of each class is made of those of the queries at last, at the size of the image.
    maps = 2 * 100 * 150 * 64 * 64 if 'mask2former' in name else 0
    assert 2 * figures['flops'] == counter.get_total_flops() - maps
    # 85 places of features at strides 8 to 64, of Mask2Former 84 at 8 to 32; in each of 6 layers two projections, where
    # to look and how much at 4 points a level for each of 8 heads, and a hidden layer.
    if 'dino' in name:
        layer = 2 * 256 * 256 + 256 * 8 * 4 * 4 * 3 + 2 * 256 * 2048
        assert figures['parts']['encoder']['flops'] == 6 * 85 * layer


def test_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r'height and width in pixels, got \(512,\)'):
        count_flops(None, (512, ))


def test_the_command(tmp_path):
    pytest.importorskip('mmdet')
    result = tool('analysis_tools/get_flops.py', 'configs/cascade_mask_rcnn_replknet_tiny_nuclei.py', '--shape', 256,
                  320, '--json', tmp_path / 'flops.json')
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / 'flops.json').read_text())
    assert figures['shape'] == [256, 320] and set(figures['parts']) == {'backbone', 'neck', 'rpn_head', 'roi_head'}
    assert f'{figures["flops"] / 1e9:.2f} G multiply-adds' in result.stdout
    # 3 mask heads of two 3x3 convolutions, a deconvolution by 2 and a 1x1, 64 channels, on 100 maps of 14x14.
    mask = 3 * 100 * (14 * 14 * 64 * 64 * (2 * 9 + 4) + 28 * 28 * 64)
    # 3 box heads of two 3x3 convolutions and three fully connected layers, on 1000 maps of 7x7.
    box = 3 * 1000 * (49 * 64 * 2 * 9 * 64 + 49 * 64 * 256 + 256 * (2 + 4))
    assert figures['parts']['roi_head']['flops'] == mask + box
