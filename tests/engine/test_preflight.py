import io
import os
import urllib.error
from pathlib import Path

import pytest
import torch

from mmreplk import RepLKNet
from mmreplk.engine import check_before_testing, check_before_training, load_config

ROOT = Path(__file__).parents[2]
ARCH = dict(large_kernel_sizes=[7, 5, 5, 3], layers=[1, 1, 1, 1], channels=[4, 8, 8, 8])
SPLITS = ('images/training', 'annotations/training', 'images/validation', 'annotations/validation')


@pytest.fixture
def cfg(tmp_path):
    """The real config with a small backbone, its weights, and a dataset of one file in each folder."""
    for split in SPLITS:
        (tmp_path / split).mkdir(parents=True)
        (tmp_path / split / 'a').touch()
    roots = {f'{name}_dataloader.dataset.data_root': str(tmp_path) for name in ('train', 'val', 'test')}
    weights = {f'backbone.{name}': tensor for name, tensor in RepLKNet(ARCH).state_dict().items()}
    torch.save(dict(state_dict=weights, meta=dict(iter=1)), tmp_path / 'weights.pth')
    options = {'model.backbone.init_cfg.checkpoint': str(tmp_path / 'weights.pth')}
    cfg = load_config(str(ROOT / 'configs/upernet_replknet31b_ade20k.py'), {**roots, **options})
    cfg.model.backbone.arch = ARCH
    return cfg


def test_nothing_is_missing(cfg):
    check_before_training(cfg)
    cfg.load_from = cfg.model.backbone.init_cfg.checkpoint
    check_before_testing(cfg)


def test_missing_and_empty_data(cfg, tmp_path):
    (tmp_path / SPLITS[3] / 'a').unlink()
    with pytest.raises(ValueError, match='for val_dataloader is missing: .*annotations/validation. is empty'):
        check_before_training(cfg)
    (tmp_path / SPLITS[3]).rmdir()
    with pytest.raises(ValueError, match='annotations/validation. does not exist. Download http.*make_mini_dataset'):
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
    with pytest.raises(ValueError, match="checkpoints/weights.pth' is empty"):
        check_before_training(cfg)
    os.replace(tmp_path / 'weights.pth', tmp_path / 'checkpoints/weights.pth')
    check_before_training(cfg)


def test_weights_are_downloaded_to_where_mmengine_looks_and_checked_there(cfg, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr('urllib.request.urlopen', lambda *_, **__: io.BytesIO())
    fetched = []

    def download(url, path):
        fetched.append(path)
        os.replace(tmp_path / 'weights.pth', path)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    cfg.model.backbone.init_cfg.checkpoint = 'https://example.org/a/weights.pth?x=1'
    monkeypatch.setenv('LOCAL_RANK', '1')
    check_before_training(cfg)
    assert not fetched
    monkeypatch.setenv('LOCAL_RANK', '0')
    check_before_training(cfg)
    assert fetched == [str(tmp_path / 'hub/checkpoints/weights.pth')]
    cfg.model.backbone.arch = dict(ARCH, channels=[4, 8, 8, 16])
    with pytest.raises(ValueError, match='hub/checkpoints/weights.pth.: these weights do not fit'):
        check_before_training(cfg)
    assert len(fetched) == 1


@pytest.mark.parametrize('key', ['init_cfg', 'load_from'])
def test_weights_of_another_architecture(cfg, key):
    path = cfg.model.backbone.init_cfg.checkpoint
    if key == 'load_from':
        cfg.load_from, cfg.model.backbone.init_cfg = path, None
    cfg.model.backbone.arch = '31B'
    with pytest.raises(ValueError, match=r"weights.pth': .*layers \(1, 1, 1, 1\), not \(2, 2, 18, 2\)"):
        check_before_training(cfg)
    torch.save(torch.nn.Linear(1, 1).state_dict(), path)
    with pytest.raises(ValueError, match="weights.pth'(: these weights do not fit| has nothing)"):
        check_before_training(cfg)


def test_a_prefix_that_is_not_there(cfg):
    torch.save(dict(model=RepLKNet(ARCH).state_dict()), cfg.model.backbone.init_cfg.checkpoint)
    with pytest.raises(ValueError, match="nothing whose name begins with the prefix 'backbone.' of init_cfg"):
        check_before_training(cfg)
    cfg.model.backbone.init_cfg.prefix = None
    check_before_training(cfg)


def test_only_checkpoints_of_a_training_can_be_resumed_from(cfg):
    cfg.load_from, cfg.resume = cfg.model.backbone.init_cfg.checkpoint, True
    check_before_training(cfg)
    torch.save(dict(model=RepLKNet(ARCH).state_dict()), cfg.load_from)
    cfg.model.backbone.init_cfg = None
    with pytest.raises(ValueError, match='cannot be resumed from: it does not say after which iteration'):
        check_before_training(cfg)
    cfg.resume = False
    check_before_training(cfg)


def test_missing_checkpoints(cfg):
    cfg.load_from = 'work_dirs/none.pth'
    for check in (check_before_training, check_before_testing):
        with pytest.raises(ValueError, match="checkpoint 'work_dirs/none.pth' does not exist"):
            check(cfg)


def test_unknown_arguments_of_the_backbone(cfg):
    cfg.model.backbone.kernel_sizes = [31]
    with pytest.raises(ValueError, match="no argument 'kernel_sizes'; it takes allow_mismatch, arch, deploy"):
        check_before_training(cfg)
