from pathlib import Path

import pytest
from mmengine.registry import init_default_scope

from mmreplk import InputError
from mmreplk.mm.checks.classes import check_classes
from mmreplk.mm.config import load_config
from tests.configs.narrowing import CONFIGS, config_of

ROOT = Path(__file__).parents[3]
THREE = dict(classes=('a', 'b', 'c'))


def config(name, **options):
    cfg = load_config(str(ROOT / f'configs/{name}.py'), options)
    init_default_scope(cfg.default_scope)
    return cfg


def test_our_configs_have_the_classes_of_their_data():
    for name in CONFIGS:
        check_classes(config_of(name), 'train_dataloader', 'val_dataloader', 'test_dataloader')


@pytest.mark.parametrize(('name', 'key'), [
    ('upernet_replknet_tiny_camvid', 'decode_head'),
    ('upernet_replknet31b_ade20k', 'decode_head'),
    ('mask2former_replknet31b_ade20k', 'decode_head'),
    ('cascade_mask_rcnn_replknet_tiny_nuclei', 'roi_head.bbox_head.0'),
    ('fcos_replknet31b_coco', 'bbox_head'),
])
def test_a_forgotten_number_of_classes(name, key):
    cfg = config(name)
    head = cfg.model.get('decode_head') or cfg.model.get('bbox_head') or cfg.model.roi_head.bbox_head[0]
    words = rf'^model\.{key}\.num_classes must be 3, the number of classes of train_dataloader.dataset \(a, b, c\)'
    cfg.train_dataloader.dataset.metainfo = THREE
    with pytest.raises(InputError, match=f'{words}, got {head.num_classes}$'):
        check_classes(cfg, 'train_dataloader')


def test_every_head_is_looked_at():
    cfg = config('upernet_replknet31b_ade20k', **{'model.auxiliary_head.num_classes': 19})
    with pytest.raises(InputError, match=r'model.auxiliary_head.num_classes must be 150, .* got 19'):
        check_classes(cfg, 'train_dataloader')
    cfg = config('cascade_mask_rcnn_replknet_tiny_nuclei', **{'model.roi_head.mask_head.num_classes': 80})
    with pytest.raises(InputError, match=r'mask_head.num_classes must be 1, .* \(nucleus\), got 80'):
        check_classes(cfg, 'val_dataloader')


def test_data_in_wrappers_and_data_that_do_not_say():
    cfg = config('upernet_replknet_tiny_camvid')
    inner = dict(cfg.train_dataloader.dataset, metainfo=THREE)
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=inner)
    with pytest.raises(InputError, match='must be 3'):
        check_classes(cfg, 'train_dataloader')
    for silent in (dict(type='BaseSegDataset'), dict(type='of nobody'), dict(metainfo=dict(classes='names.txt'))):
        cfg.train_dataloader.dataset = silent
        check_classes(cfg, 'train_dataloader')
