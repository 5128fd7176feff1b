"""What is exported computes what the training form does, whatever the number and the size of the images."""

import json
from copy import deepcopy

import onnx
import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmreplk import InputError
from mmreplk.mm.export import FORMATS, export, random_batches, real_batches
from mmreplk.mm.export.agreement import compare
from mmreplk.mm.export.pooling import MatrixPool2d, use_matrix_pools
from tests.mm.export.conftest import ARCH, META, NAMES, trained

SIZES = [(1, 3, 9, 9), (3, 3, 32, 48), (2, 3, 41, 30)]


def noise(size):
    return torch.randint(256, size).float()


def assert_same(cfg, saved, data, format, labels=False):
    model = trained(cfg)
    model.load_state_dict(saved['state_dict'])
    for check in compare(model, FORMATS[format].read(data), list(map(noise, SIZES)), labels):
        assert check.difference < 1e-5, check


def test_onnx_is_the_training_form_on_any_images(cfg, saved, exported):
    assert [check.shape for check in exported.checks] == [(1, 3, 40, 52)] * 2 + [(1, 3, 33, 48), (2, 3, 37, 47)]
    assert_same(cfg, saved, exported.data, 'onnx')


def test_onnx_is_a_plain_merged_and_folded_graph(exported):
    model = onnx.load_from_string(exported.data)
    nodes = {node.name: node for node in model.graph.node}
    assert len(nodes) == len(model.graph.node)
    assert {opset.domain for opset in model.opset_import} == {''} and not model.functions
    assert not any('BatchNorm' in node.op_type for node in nodes.values())
    large = [node for name, node in nodes.items() if 'large_kernel' in name and node.op_type == 'Conv']
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert [shapes[node.input[1]] for node in large] == [[8, 1, 13, 13], [12, 1, 7, 7]]
    assert nodes['model.backbone.stages.0.blocks.0.large_kernel.lkb_reparam'] is large[0]
    assert not any('auxiliary' in name for name in shapes)
    texts = {entry.key: entry.value for entry in model.metadata_props}
    assert [entry['name'] for entry in json.loads(texts['classes'])] == list(NAMES)
    assert json.loads(texts['data_preprocessor'])['mean'][0] == 123.675
    assert b'site-packages' not in exported.data and b'/export/' not in exported.data


def test_kernels_of_a_size_as_transposed_convolutions(cfg, saved):
    exported = export(cfg, saved, 'it', transposed=13)
    assert_same(cfg, saved, exported.data, 'onnx')
    graph = onnx.load_from_string(exported.data).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    large = [(node.op_type, shapes[node.input[1]]) for node in graph.node if 'large_kernel' in node.name and
             node.op_type.startswith('Conv')]
    assert large == [('ConvTranspose', [8, 1, 13, 13]), ('Conv', [12, 1, 7, 7])]
    with pytest.raises(InputError, match='no depthwise convolution with stride 1 has a kernel of 5x5; there are .*13'):
        export(cfg, saved, 'it', transposed=5)


@pytest.mark.parametrize(('format', 'labels'), [('pt2', False), ('torchscript', False), ('torchscript', True)])
def test_formats_of_pytorch(cfg, saved, format, labels):
    exported = export(cfg, saved, 'it', format, labels, shape=(16, 24))
    assert_same(cfg, saved, exported.data, format, labels)
    out, = FORMATS[format].read(exported.data)(noise((1, 3, 20, 30)))
    assert out.shape == ((1, 20, 30) if labels else (1, 3, 20, 30))


def test_binary_labels_and_padding(cfg):
    cfg = deepcopy(cfg)
    cfg.model.decode_head.update(num_classes=2, out_channels=1, threshold=0.3, pool_scales=(1, 2, 3, 6))
    cfg.model.auxiliary_head = None
    cfg.model.data_preprocessor.update(test_cfg=dict(size_divisor=16), pad_val=3)
    saved = dict(META, state_dict=trained(cfg).state_dict())
    for labels in (False, True):
        data = export(cfg, saved, 'it', 'torchscript', labels).data
        assert_same(cfg, saved, data, 'torchscript', labels)
    assert set(FORMATS['torchscript'].read(data)(noise((1, 3, 40, 40)))[0].unique().tolist()) == {0, 1}


def test_backbone_and_neck_of_a_detector():
    cfg = Config(dict(
        default_scope='mmdet',
        model=dict(
            type='RetinaNet',
            data_preprocessor=dict(type='DetDataPreprocessor', mean=[1., 2., 3.], std=[4., 5., 6.], rgb_to_bgr=True,
                                   pad_size_divisor=32),
            backbone=dict(type='RepLKNet', arch=ARCH, out_indices=(0, 1)),
            neck=dict(type='FPN', in_channels=[8, 12], out_channels=8, num_outs=3, norm_cfg=dict(type='BN')),
            bbox_head=dict(type='RetinaHead', num_classes=2, in_channels=8, feat_channels=8))))
    saved = dict(state_dict=trained(cfg).state_dict())
    exported = export(cfg, saved, 'it', 'torchscript')
    assert exported.metadata['outputs'] == ['features_0', 'features_1', 'features_2']
    assert_same(cfg, saved, exported.data, 'torchscript')
    with pytest.raises(InputError, match='a RetinaNet gives no labels'):
        export(cfg, saved, 'it', labels=True)


def test_what_cannot_be_exported(cfg, saved):
    with pytest.raises(InputError, match=r'differs from the model by .* more than 1e-12: it is not written'):
        export(cfg, saved, 'it', 'torchscript', tolerance=1e-12)
    for tolerance in (0, -1, float('nan')):
        with pytest.raises(InputError, match=f'the tolerance must be positive, got {tolerance}'):
            export(cfg, saved, 'it', tolerance=tolerance)
    with pytest.raises(InputError, match="one of onnx, pt2, torchscript, got 'pb'"):
        export(cfg, saved, 'it', 'pb')
    with pytest.raises(InputError, match='at least 9x9 pixels, got 8x99'):
        export(cfg, saved, 'it', 'torchscript', shape=(8, 99))
    other = dict(META, state_dict={k: v for k, v in saved['state_dict'].items() if 'conv_seg' not in k})
    with pytest.raises(InputError, match="'it' is of another model: it lacks 'decode_head.conv_seg.weight'"):
        export(cfg, other, 'it', 'torchscript')
    fixed = deepcopy(cfg)
    fixed.model.data_preprocessor.test_cfg = dict(size=(64, 64))
    with pytest.raises(InputError, match=r'pads every image to \(64, 64\)'):
        export(fixed, saved, 'it', 'torchscript')


def test_pictures_to_compare_on(data_root, tmp_path):
    with pytest.raises(InputError, match='there is no picture'):
        real_batches(tmp_path)
    (tmp_path / 'broken.png').write_bytes(b'no picture')
    with pytest.raises(InputError, match='broken.png.* is'):
        real_batches(tmp_path)
    alone, both = real_batches(data_root / 'images', 1)
    assert torch.equal(both[0], alone[0, :, 3:, 5:]) and torch.equal(both[1], both[0].flip(2))
    assert random_batches((3, 8, 8))[1].shape == (2, 3, 21, 30)


@pytest.mark.parametrize('bins', [1, 2, 3, 6, (3, 5)])
def test_matrix_pools(bins):
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(bins))
    twin = deepcopy(pool)
    use_matrix_pools(twin)
    assert isinstance(twin[0], nn.AdaptiveAvgPool2d if bins == 1 else MatrixPool2d)
    for size in ((1, 1), (2, 5), (6, 12), (7, 11), (16, 25)):
        x = torch.randn(2, 3, *size)
        torch.testing.assert_close(twin(x), pool(x))
