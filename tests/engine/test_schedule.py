from pathlib import Path

import pytest

from mmreplk import InputError
from mmreplk.engine import build_runner, check_before_training, load_config
from mmreplk.engine.schedule import check_schedule

CONFIGS = sorted((Path(__file__).parents[2] / 'configs').glob('*.py'))
REAL = 'configs/upernet_replknet31b_ade20k.py'


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_our_own(path):
    if 'convnext' in path.stem:
        pytest.importorskip('mmpretrain', reason='ConvNeXt is a backbone of mmpretrain')
    check_schedule(load_config(str(path)))


@pytest.mark.parametrize(('key', 'value', 'words'), [
    ('train_cfg.max_iters', 0, 'train_cfg.max_iters must be a positive integer, got 0'),
    ('train_cfg.val_interval', 1.5, 'train_cfg.val_interval must be a positive integer, got 1.5'),
    ('train_dataloader.batch_size', True, 'batch_size must be a positive integer, got True'),
    ('train_dataloader.num_workers', -1, 'num_workers must be an integer of at least 0, got -1'),
    ('optim_wrapper.optimizer.lr', float('nan'), 'lr must be a finite number of at least 0, got nan'),
    ('optim_wrapper.optimizer.weight_decay', 'x', "weight_decay must be a finite number of at least 0, got 'x'"),
    ('optim_wrapper.accumulative_counts', 3, 'interval must be a multiple of .*accumulative_counts, 3, .*got 16000'),
])
def test_what_is_wrong_is_named(key, value, words):
    cfg = load_config(REAL, {key: value})
    with pytest.raises(InputError, match=words):
        check_before_training(cfg)


def test_gradients_may_accumulate_up_to_a_checkpoint():
    check_schedule(load_config(REAL, {'optim_wrapper.accumulative_counts': 4}))


@pytest.mark.parametrize(('key', 'kind'), [
    ('strategy', 'FSDPStrategy'), ('strategy', 'DeepSpeedStrategy'), ('strategy', 'ColossalAIStrategy'),
    ('model_wrapper_cfg', 'MMFullyShardedDataParallel'),
])  # yapf: disable
def test_sharded_parameters_are_refused(key, kind):
    cfg = load_config(REAL, {'runner_type': 'FlexibleRunner', key: dict(type=kind)})
    with pytest.raises(InputError, match=f"{key} '{kind}' shards the parameters"):
        build_runner(cfg)
