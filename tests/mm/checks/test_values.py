import pytest

from mmreplk import InputError
from mmreplk.mm.checks import check_before_training
from mmreplk.mm.checks.values import check_values
from mmreplk.mm.config import load_config
from mmreplk.mm.runner import build_runner
from tests.configs.narrowing import CONFIGS, config_of

REAL = 'configs/upernet_replknet31b_ade20k.py'


@pytest.mark.parametrize('name', CONFIGS)
def test_our_own(name):
    check_values(config_of(name))


@pytest.mark.parametrize(('key', 'value', 'words'), [
    ('train_cfg.max_iters', 0, 'train_cfg.max_iters must be a positive integer, got 0'),
    ('train_cfg.val_interval', 1.5, 'train_cfg.val_interval must be a positive integer, got 1.5'),
    ('train_dataloader.batch_size', True, 'batch_size must be a positive integer, got True'),
    ('train_dataloader.num_workers', -1, 'num_workers must be an integer from 0 to 1000, got -1'),
    ('train_dataloader.num_workers', 10**6, 'num_workers must be an integer from 0 to 1000, got 1000000'),
    ('train_dataloader', 'x', "train_dataloader must be a dict or None, got 'x'"),
    ('load_from', True, 'load_from must be a string or None, got True'),
    ('log_level', -1, 'log_level must be a name such as INFO, got -1'),
    ('default_hooks.checkpoint.interval', None, 'interval must be a positive integer, or -1 for never, got None'),
    ('resume', 0, 'resume must be True or False, got 0'),
    ('model.data_preprocessor.size', (0, 0), r'size must be a pair of positive integers or None, got \(0, 0\)'),
    ('train_dataloader.dataset.pipeline.2.ratio_range', (-1, 5), 'ratio_range must be a pair of positive numbers, got'),
    ('param_scheduler.1.power', None, 'param_scheduler.1.power must be a number, got None'),
    ('model.decode_head.dropout_ratio', float('nan'), 'model.decode_head.dropout_ratio must not be nan'),
    ('train_dataloader.dataset.pipeline.1.type', 5, 'dataset.pipeline.1.type must be the name of a class, got 5'),
    ('model.decode_head.loss_decode', (), r'model.decode_head.loss_decode must be a loss or several, got \(\)'),
    ('optim_wrapper.optimizer.lr', float('nan'), 'lr must be a finite number of at least 0, got nan'),
    ('optim_wrapper.optimizer.weight_decay', 'x', "weight_decay must be a finite number of at least 0, got 'x'"),
    ('optim_wrapper.accumulative_counts', 3, 'interval must be a multiple of .*accumulative_counts, 3, .*got 16000'),
])
def test_what_is_wrong_is_named(key, value, words):
    cfg = load_config(REAL, {key: value})
    with pytest.raises(InputError, match=words):
        check_before_training(cfg)


def test_gradients_may_accumulate_up_to_a_checkpoint():
    check_values(load_config(REAL, {'optim_wrapper.accumulative_counts': 4}))


@pytest.mark.parametrize(('key', 'kind'), [
    ('strategy', 'FSDPStrategy'), ('strategy', 'DeepSpeedStrategy'), ('strategy', 'ColossalAIStrategy'),
    ('model_wrapper_cfg', 'MMFullyShardedDataParallel'),
])
def test_sharded_parameters_are_refused(key, kind):
    cfg = load_config(REAL, {'runner_type': 'FlexibleRunner', key: dict(type=kind)})
    with pytest.raises(InputError, match=f"{key} '{kind}' shards the parameters"):
        build_runner(cfg)
