import urllib.error
from pathlib import Path

import pytest
import torch

from mmreplk.engine import check_before_testing, check_before_training, load_config

ROOT = Path(__file__).parents[2]
SPLITS = ('images/training', 'annotations/training', 'images/validation', 'annotations/validation')


@pytest.fixture
def cfg(tmp_path):
    """The real config over a dataset of one file in each folder, without pre-trained weights."""
    for split in SPLITS:
        (tmp_path / split).mkdir(parents=True)
        (tmp_path / split / 'a').touch()
    roots = {f'{name}_dataloader.dataset.data_root': str(tmp_path) for name in ('train', 'val', 'test')}
    weights = {'model.backbone.init_cfg.checkpoint': str(tmp_path / SPLITS[0] / 'a')}
    return load_config(str(ROOT / 'configs/upernet_replknet31b_ade20k.py'), {**roots, **weights})


def test_nothing_is_missing(cfg):
    check_before_training(cfg)
    cfg.load_from = cfg.model.backbone.init_cfg.checkpoint
    check_before_testing(cfg)


def test_missing_and_empty_data(cfg, tmp_path):
    (tmp_path / SPLITS[3] / 'a').unlink()
    with pytest.raises(ValueError, match='for val_dataloader is missing: .*annotations/validation. is empty'):
        check_before_training(cfg)
    (tmp_path / SPLITS[3]).rmdir()
    with pytest.raises(ValueError, match='annotations/validation. does not exist. Download http.*make_mini_ade20k'):
        check_before_training(cfg)


def test_data_inside_wrappers(cfg):
    missing = dict(type='ADE20KDataset', data_root='/nowhere', data_prefix=dict(img_path='images'))
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[cfg.train_dataloader.dataset, missing]))
    with pytest.raises(ValueError, match='/nowhere/images. does not exist'):
        check_before_training(cfg)


def test_weights_that_cannot_be_downloaded(cfg, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))

    def refuse(*_, **__):
        raise urllib.error.URLError('no network')

    monkeypatch.setattr('urllib.request.urlopen', refuse)
    cfg.model.backbone.init_cfg.checkpoint = 'https://example.org/a/weights.pth'
    with pytest.raises(ValueError, match=r'weights.pth cannot be downloaded \(no network\).*init_cfg=None'):
        check_before_training(cfg)
    (tmp_path / 'checkpoints').mkdir()
    (tmp_path / 'checkpoints/weights.pth').touch()
    check_before_training(cfg)


def test_missing_checkpoints(cfg):
    cfg.load_from = 'work_dirs/none.pth'
    for check in (check_before_training, check_before_testing):
        with pytest.raises(ValueError, match="checkpoint 'work_dirs/none.pth' does not exist"):
            check(cfg)


def test_unknown_arguments_of_the_backbone(cfg):
    cfg.model.backbone.kernel_sizes = [31]
    with pytest.raises(ValueError, match="RepLKNet has no argument 'kernel_sizes'; it takes arch, deploy"):
        check_before_training(cfg)
