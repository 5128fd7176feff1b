"""Runs that go on with another schedule, another optimizer, or nothing to learn."""

import pytest

from mmreplk.mm.checkpoints import find_resumable
from mmreplk.mm.runner import build_runner
from tests.mm.hooks.toy import toy_config


def resumed(folder, by_epoch=False, **changes):
    """Trains to iteration or epoch 4 of 8, and returns the runner that is to go on with some values changed."""
    before = toy_config(folder, by_epoch=by_epoch, end=8)
    before.train_cfg['max_epochs' if by_epoch else 'max_iters'] = 4
    build_runner(before).train()
    cfg = toy_config(folder, by_epoch=by_epoch, end=8)
    cfg.merge_from_dict(changes)
    cfg.update(resume=True, load_from=find_resumable(str(folder)))
    return build_runner(cfg)


@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_run_as_it_was_goes_on_and_says_what_it_takes_from_where(tmp_path, by_epoch, capfd):
    runner = resumed(tmp_path, by_epoch)
    runner.train()
    assert (runner.epoch if by_epoch else runner.iter) == 8
    assert 'schedules go on as they are in the checkpoint' in capfd.readouterr().out


SCHEDULE = r'param_scheduler.0 \(PolyLR\) has '


@pytest.mark.parametrize(('changes', 'words'), [
    ({'param_scheduler.end': 16, 'train_cfg.max_iters': 16}, SCHEDULE + 'end=8 in the checkpoint and 16 in the config'),
    ({'param_scheduler.power': 2.}, SCHEDULE + 'power=1.0 in the checkpoint and 2.0 in the config'),
    ({'param_scheduler.type': 'CosineAnnealingLR', 'param_scheduler.T_max': 8},
     r'param_scheduler.0 \(CosineAnnealingLR\) has no T_max in the checkpoint and 8 in the config'),
    ({'param_scheduler': []}, 'param_scheduler has 1 entries in the checkpoint and 0 in the config'),
    ({'optim_wrapper.optimizer.lr': .02}, 'the optimizer has lr=0.01 in the checkpoint and 0.02 in the config'),
    ({'optim_wrapper.optimizer.weight_decay': .5}, 'weight_decay=0.01 in the checkpoint and 0.5 in the config'),
    ({'optim_wrapper.optimizer.betas': (.8, .9)}, r'betas=\(0.9, 0.999\) in the checkpoint and \(0.8, 0.9\) in the'),
    ({'optim_wrapper.optimizer.type': 'SGD'}, 'has amsgrad in the checkpoint and dampening in the'),
    ({'optim_wrapper.paramwise_cfg': dict(bias_lr_mult=2)},
     'the optimizer has 1 groups of parameters in the checkpoint and 4 in the config'),
])
def test_another_schedule_or_optimizer_is_refused_with_both_values(tmp_path, changes, words):
    runner = resumed(tmp_path, **changes)
    with pytest.raises(ValueError, match=f'{words}.*load_from=.*iter_4.pth without --resume'):
        runner.train()
    assert runner.iter in (0, 4), 'nothing was trained'


def test_epochs_that_the_schedule_counts_as_iterations(tmp_path):
    runner = resumed(tmp_path, True, **{'param_scheduler.convert_to_iter_based': True})
    with pytest.raises(ValueError, match='by_epoch=True in the checkpoint and False in the config'):
        runner.train()


def test_what_the_config_decides_is_taken(tmp_path):
    runner = resumed(tmp_path, **{
        'optim_wrapper.clip_grad': dict(max_norm=1.), 'train_cfg.max_iters': 6, 'train_cfg.val_interval': 3
    })
    runner.train()
    assert runner.iter == 6 and runner.optim_wrapper.clip_grad_kwargs


def test_learning_rates_that_are_zero_for_good(tmp_path):
    """Of more iterations than the schedule has, as when max_iters alone is doubled."""
    build_runner(toy_config(tmp_path, end=4)).train()
    cfg = toy_config(tmp_path, end=4)
    cfg.update(resume=True, load_from=find_resumable(str(tmp_path)))
    cfg.train_cfg.max_iters = 8
    words = r'learning rates are 0 for good since iteration 4, .* from iteration 4 to 8.*load_from'
    with pytest.raises(ValueError, match=words):
        build_runner(cfg).train()


def test_a_run_that_has_ended_says_so(tmp_path, capfd):
    runner = resumed(tmp_path, **{'train_cfg.max_iters': 4})
    runner.train()
    assert 'of iteration 4, and train_cfg ends at 4: there is nothing left to train' in capfd.readouterr().out


def test_weights_alone_may_be_trained_otherwise(tmp_path):
    runner = resumed(tmp_path, **{'param_scheduler.end': 16, 'optim_wrapper.optimizer.type': 'SGD'})
    runner.cfg.resume = runner._resume = False
    runner.train()
    assert runner.iter == 8
