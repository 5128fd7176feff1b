import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmreplk import InputError
from mmreplk.mm.checks.channels import misfits
from mmreplk.mm.checks.schedule import check_schedule, overlong, unsaved
from mmreplk.mm.config import load_config

ROOT = Path(__file__).parents[3]
SEGMENTOR = str(ROOT / 'configs/upernet_replknet_tiny_camvid.py')
EPOCHS = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=1)


def by_epochs(sampler=None):
    """One of our segmentors with epochs as a user writes them, which leaves the sampler of the base."""
    cfg = load_config(SEGMENTOR)
    cfg.train_cfg = EPOCHS
    if sampler:
        cfg.train_dataloader.sampler = sampler
    return cfg


def test_all_our_configs_end():
    for path in sorted((ROOT / 'configs').rglob('*.py')):
        cfg = Config.fromfile(path, import_custom_modules=False)
        check_schedule(cfg)
        if '_base_' not in str(path) and 'max_iters' in cfg.get('train_cfg', {}):
            assert not list(unsaved(cfg)) or 'mini' in path.stem, path


def test_epochs_with_a_sampler_that_never_ends():
    with pytest.raises(InputError, match=r"train_dataloader.sampler 'InfiniteSampler' never ends.*DefaultSampler"):
        check_schedule(by_epochs())
    check_schedule(by_epochs(dict(type='DefaultSampler', shuffle=True)))


def test_subclasses_classes_and_the_other_loaders():
    from mmengine.dataset import InfiniteSampler

    class Own(InfiniteSampler):
        pass

    with pytest.raises(InputError, match="train_dataloader.sampler 'Own' never ends"):
        check_schedule(by_epochs(dict(type=Own)))
    cfg = load_config(SEGMENTOR)
    check_schedule(cfg)
    cfg.val_dataloader.sampler = dict(type='InfiniteSampler')
    with pytest.raises(InputError, match="val_dataloader.sampler 'InfiniteSampler' never ends, so an evaluation "
                                         'would not'):
        check_schedule(cfg)


def test_a_schedule_that_would_never_take_a_step():
    cfg = load_config(SEGMENTOR)
    cfg.param_scheduler = [dict(type='PolyLR', power=1.0, end=100)]
    with pytest.raises(InputError, match=r'param_scheduler.0, PolyLR, counts epochs .* Set by_epoch=False'):
        check_schedule(cfg)
    for right in (dict(by_epoch=False), dict(convert_to_iter_based=True)):
        cfg.param_scheduler = [dict(type='PolyLR', end=100, **right)]
        check_schedule(cfg)


@pytest.mark.parametrize(('loop', 'hook', 'iterations', 'words'), [
    (dict(max_iters=10), dict(interval=2), None, 'counts epochs .* Set by_epoch=False'),
    (dict(max_iters=10), dict(interval=16, by_epoch=False), None, 'interval is 16, and the run ends after 10 iter'),
    (dict(max_epochs=3), dict(interval=5), None, 'interval is 5, and the run ends after 3 epochs'),
    (dict(max_epochs=3), dict(interval=5, by_epoch=False), 4, 'interval is 5, and the run ends after 4 iterations'),
    (dict(max_epochs=3), dict(interval=5, by_epoch=False), None, None),
    (dict(max_iters=10), dict(interval=10, by_epoch=False), None, None),
    (dict(max_epochs=3), dict(interval=1), None, None),
    (dict(type='Own'), dict(interval=1), None, None),
])
def test_checkpoints_that_never_come_due(loop, hook, iterations, words):
    said = list(unsaved(Config(dict(train_cfg=loop, default_hooks=dict(checkpoint=hook))), iterations))
    assert len(said) == bool(words)
    if words:
        assert re.search(words, said[0])


def test_a_schedule_longer_than_the_run():
    cfg = Config(dict(param_scheduler=[dict(type='PolyLR', by_epoch=False, end=160000)]))
    assert 'the run has 24 iterations, and param_scheduler goes on to iteration 160000' in next(overlong(cfg, 24))
    assert not list(overlong(cfg, 160000))


def test_crops_of_another_size_than_the_batches():
    cfg = load_config(SEGMENTOR)
    assert not list(misfits(cfg))
    cfg.model.data_preprocessor.size = (512, 512)
    assert next(misfits(cfg)).startswith('train_dataloader crops to (256, 256), but model.data_preprocessor.size is '
                                         '(512, 512): every batch is padded')
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset)
    assert len(list(misfits(cfg))) == 1


def test_detectors_do_not_benchmark_every_size(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    for path in (ROOT / 'configs').glob('*.py'):
        cfg = Config.fromfile(path, import_custom_modules=False)
        assert cfg.env_cfg.cudnn_benchmark == (cfg.default_scope == 'mmseg')
        assert not list(misfits(cfg))
    cfg = Config.fromfile(ROOT / 'configs/fcos_replknet31b_coco.py')
    cfg.env_cfg.cudnn_benchmark = True
    assert 'cuDNN tries its algorithms out for each of them' in next(misfits(cfg))
