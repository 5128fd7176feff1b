"""The same command lines on detectors: RetinaNet on RepLKNet, in a config as a user of MMDetection writes one, and our
Cascade Mask R-CNN."""

import json
import pickle
import re

import cv2
import numpy as np
import pytest

from tests.tools.conftest import MASKS
from tests.tools.processes import tool

CONFIG = """
default_scope = 'mmdet'
custom_imports = dict(imports=['mmreplk'])
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3, pad_size_divisor=32),
    backbone=dict(
        type='RepLKNet',
        arch=dict(large_kernel_sizes=[13, 13, 13, 7], layers=[1, 1, 1, 1], channels=[8, 16, 16, 16], small_kernel=5)),
    neck=dict(type='FPN', in_channels=[8, 16, 16, 16], out_channels=16, start_level=1, num_outs=5,
              add_extra_convs='on_input'),
    bbox_head=dict(
        type='RetinaHead', num_classes=1, in_channels=16, feat_channels=16, stacked_convs=1,
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3, ratios=[1.0],
                              strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True), loss_bbox=dict(type='L1Loss')),
    train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0),
                   sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1),
    test_cfg=dict(nms_pre=100, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10))
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
            dict(type='Resize', scale=(96, 96)), dict(type='PackDetInputs')]
dataset = dict(type='CocoDataset', data_root='ROOT', ann_file='boxes.json', data_prefix=dict(img='images'),
               metainfo=dict(classes=('box', )), pipeline=pipeline)
train_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                        batch_sampler=dict(type='AspectRatioBatchSampler'), dataset=dataset)
val_dataloader = dict(batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                      dataset=dict(test_mode=True, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(type='CocoMetric', ann_file='ROOT/boxes.json', metric='bbox')
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-4))
default_hooks = dict(visualization=dict(type='DetVisualizationHook'))
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
custom_hooks = [dict(type='ReparamHook')]
"""


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp('boxes')
    (root / 'images').mkdir()
    rng, images, annotations = np.random.default_rng(0), [], []
    for i in range(1, 5):
        picture = rng.integers(0, 80, (96, 96, 3), np.uint8)
        x, y, width, height = (int(v) for v in (*rng.integers(5, 40, 2), *rng.integers(20, 50, 2)))
        picture[y:y + height, x:x + width] += 150
        cv2.imwrite(str(root / f'images/{i}.png'), picture)
        images.append(dict(id=i, file_name=f'{i}.png', width=96, height=96))
        annotations.append(dict(id=i, image_id=i, category_id=1, bbox=[x, y, width, height], area=width * height,
                                iscrowd=0))
    (root / 'boxes.json').write_text(json.dumps(
        dict(images=images, annotations=annotations, categories=[dict(id=1, name='box')])))
    (root / 'config.py').write_text(CONFIG.replace('ROOT', str(root)))
    return root / 'config.py'


def test_a_detector_trains_and_is_evaluated_merged(config, tmp_path):
    result = tool('train.py', config, '--work-dir', tmp_path)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
    assert 'evaluating with 4 large-kernel layers merged' in result.stdout
    metrics = []
    for extra in ((), ('--tta', )):
        result = tool('test.py', config, tmp_path / 'epoch_1.pth', '--work-dir', tmp_path, '--out',
                      tmp_path / 'out.pkl', '--show-dir', tmp_path / 'pictures', *extra)
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr
        metrics += re.findall(r'coco/bbox_mAP: (\S+)', result.stdout)[-1:]
        assert len(pickle.loads((tmp_path / 'out.pkl').read_bytes())) == 4
    assert len(metrics) == 2 and len(list((tmp_path / 'pictures').rglob('*.png'))) == 4


def test_a_missing_annotation_file_is_one_sentence(config, tmp_path):
    result = tool('train.py', config, '--work-dir', tmp_path, '--cfg-options',
                  'train_dataloader.dataset.ann_file=none.json')
    assert result.returncode == 2 and "none.json' does not exist" in result.stderr, result.stderr


def test_masks_are_evaluated_merged_and_drawn(masks, tmp_path):
    options, work_dir, log = masks
    assert 'evaluating with 6 large-kernel layers merged' in log and len(re.findall(r'coco/segm_mAP_50: ', log)) == 1
    predictions, sheet = tmp_path / 'out', tmp_path / 'sheet.png'
    result = tool('test.py', MASKS, work_dir / 'iter_2.pth', '--work-dir', tmp_path, '--out', predictions,
                  '--cfg-options', *options)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
    for name in ('bbox_mAP', 'segm_mAP'):
        assert len(set(re.findall(rf'coco/{name}: (\S+)', log + result.stdout))) == 1
    result = tool('analysis_tools/contact_sheet.py', MASKS, predictions, sheet, '--cfg-options', *options)
    assert result.returncode == 0 and cv2.imread(str(sheet)).shape == (2 * 96 + 4, 3 * 96 + 8, 3), result.stderr


def test_several_views_are_merged_for_boxes_only(masks, tmp_path):
    options, work_dir, _ = masks
    result = tool('test.py', MASKS, work_dir / 'iter_2.pth', '--work-dir', tmp_path, '--tta', '--cfg-options', *options)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
    assert 'masks are left out' in result.stdout and 'coco/bbox_mAP: ' in result.stdout
    assert 'segm_mAP' not in result.stdout


def test_the_data_of_a_detector_is_checked(masks):
    options, *_ = masks
    result = tool('analysis_tools/check_dataset.py', MASKS, '--cfg-options', *options, 'data_counts.train=8',
                  'data_counts.val=3')
    assert result.returncode == 2 and 'train: 8 images, as they should be' in result.stdout, result.stderr
    assert '2 images, expected 3' in result.stdout
