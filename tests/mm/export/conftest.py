import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmreplk.mm.export import export, real_batches
from tests.conftest import randomize

NAMES = ('sky', 'road', 'car')
META = dict(meta=dict(dataset_meta=dict(classes=NAMES, palette=[[0, 0, 0], [128, 64, 0], [255, 0, 255]])))
ARCH = dict(large_kernel_sizes=[13, 7], layers=[1, 1], channels=[8, 12], small_kernel=3)


@pytest.fixture(scope='session')
def data_root(tmp_path_factory):
    """Three pictures of two sizes, with label maps."""
    root, rng = tmp_path_factory.mktemp('export_data'), np.random.default_rng(0)
    for kind in ('images', 'labels'):
        (root / kind).mkdir()
    for i, size in enumerate([(40, 52), (40, 52), (33, 48)]):
        cv2.imwrite(str(root / f'images/{i}.png'), rng.integers(0, 256, (*size, 3), np.uint8))
        cv2.imwrite(str(root / f'labels/{i}.png'), rng.integers(0, len(NAMES), size, np.uint8))
    return root


@pytest.fixture(scope='session')
def cfg(data_root):
    """A segmentor with what UperNet has, and data for it."""
    loader = dict(
        batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='BaseSegDataset', data_root=str(data_root), img_suffix='.png', metainfo=dict(classes=NAMES),
            data_prefix=dict(img_path='images', seg_map_path='labels'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
    return Config(dict(
        default_scope='mmseg', work_dir=str(data_root / 'work_dir'), launcher='none', experiment_name='export',
        model=dict(
            type='EncoderDecoder', test_cfg=dict(mode='whole'),
            data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53],
                                   std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
            backbone=dict(type='RepLKNet', arch=ARCH, out_indices=(0, 1)),
            decode_head=dict(type='UPerHead', in_channels=[8, 12], in_index=[0, 1], channels=8, align_corners=False,
                             pool_scales=(1, 2), num_classes=len(NAMES), norm_cfg=dict(type='BN')),
            auxiliary_head=dict(type='FCNHead', in_channels=12, in_index=1, channels=4, num_classes=len(NAMES),
                                norm_cfg=dict(type='BN'))),
        train_dataloader=loader, train_cfg=dict(type='IterBasedTrainLoop', max_iters=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)), test_dataloader=loader, test_cfg=dict(type='TestLoop'),
        test_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU'])))


@pytest.fixture(scope='session')
def saved(cfg):
    return dict(META, state_dict=trained(cfg).state_dict())


@pytest.fixture(scope='session')
def exported(cfg, saved, data_root):
    return export(cfg, saved, 'it', batches=real_batches(data_root / 'images'))


def trained(cfg):
    """A model with weights and statistics that a mistake in merging or folding cannot survive."""
    torch.manual_seed(0)
    init_default_scope(cfg.default_scope)
    return randomize(MODELS.build(cfg.model)).eval()
