"""Every config at its real depth and a fraction of its width, and what is fed to it."""

import copy
import dataclasses
from functools import cache
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from mmreplk.mm.backbones import network_of
from mmreplk.mm.config import load_config
from tests.beside_torchvision import import_mmpretrain

ROOT = Path(__file__).parents[2]
CONFIGS = {path.stem: path for path in sorted((ROOT / 'configs').glob('*.py'))}
NARROWING = 16
HEADS_NARROWING = 8


def config_of(name):
    if 'convnext' in name:
        import_mmpretrain()
    cfg = copy.deepcopy(_loaded(name))
    init_default_scope(cfg.default_scope)
    return cfg


@cache
def _loaded(name):
    return load_config(str(CONFIGS[name]))


def narrow(cfg):
    """Divides the widths of a network, and of heads that are no transformers; depths and kernels stay as they are."""
    model = cfg.model
    model.backbone.init_cfg = None
    network = network_of(model.backbone)
    if network is not None:
        arch = network.Arch.parse(model.backbone.arch)
        channels = [max(channels // NARROWING, 8) for channels in arch.channels]
        model.backbone.arch = dict(dataclasses.asdict(arch), channels=channels)
        if 'neck' in model:
            model.neck.in_channels = [channels[i] for i in model.backbone.out_indices]
        else:
            model.decode_head.in_channels = channels
        if model.get('auxiliary_head'):
            model.auxiliary_head.in_channels = channels[2]
    for head in filter(None, (model.get('decode_head'), model.get('auxiliary_head'))):
        if 'channels' in head:
            head.channels //= HEADS_NARROWING
    if 'num_queries' not in model and 'neck' in model:
        for part in ('neck', 'rpn_head', 'roi_head', 'bbox_head'):
            _narrow_widths(model.get(part))
    if model.test_cfg.get('mode') == 'slide':
        model.test_cfg.update(crop_size=(64, 64), stride=(42, 42))
    few(model)
    return model


def few(model):
    """Lets few proposals, queries and points reach heads, which take most of the time of a step otherwise."""
    stages = (model.get('train_cfg') or {}).get('rcnn', [])
    for stage in stages if isinstance(stages, list) else [stages]:
        stage.sampler.num = 8
    if 'rcnn' in model.test_cfg:
        model.test_cfg.rpn.max_per_img = 8
    if 'num_queries' in model:
        model.num_queries = 20  # a picture of 64x64 has 85 places for them
    if 'num_queries' in model.get('decode_head', {}):
        model.decode_head.train_cfg.num_points = 256


def _narrow_widths(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key.endswith('channels') and isinstance(value, int):
                node[key] = value // HEADS_NARROWING
            _narrow_widths(value)
    elif isinstance(node, list):
        for value in node:
            _narrow_widths(value)


def inputs(cfg):
    """Two pictures of 64x64, after the data preprocessor would have seen them."""
    images = torch.randn(2, 3, 64, 64)
    metainfo = dict(img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64), batch_input_shape=(64, 64),
                    scale_factor=(1, 1), img_id=0, flip=False)
    if cfg.default_scope == 'mmseg':
        from mmseg.structures import SegDataSample
        sample = SegDataSample(metainfo=metainfo)
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 11, (1, 64, 64)))
        return images, [sample, sample.clone()]
    from mmdet.testing import demo_mm_inputs
    samples = demo_mm_inputs(2, (3, 64, 64), num_items=[3, 2], num_classes=2, with_mask=True)['data_samples']
    for sample in samples:
        sample.gt_instances.labels.zero_()
        sample.set_metainfo(metainfo)
    return images, samples
