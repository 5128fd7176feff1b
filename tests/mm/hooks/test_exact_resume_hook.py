"""Interrupted and resumed runs of MMEngine against runs that were left alone."""

import copy
import itertools

import pytest
import torch
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.model import BaseModel
from torch import nn

from mmreplk import InputError, RepLKNet
from mmreplk.mm import ExactResumeHook
from mmreplk.mm.checkpoints import find_resumable
from mmreplk.weights import read_checkpoint
from tests.conftest import assert_same_bits, copied_state
from tests.mm.hooks.toy import DataSeen, InterruptAt, Interrupted, make_runner


def train(runner):
    runner.train()
    return copied_state(runner.model)


def train_with_interruption(folder, *hooks, at, resumed=None, **options):
    with pytest.raises(Interrupted):
        make_runner(folder, InterruptAt(**at), *hooks, **options).train()
    options.update(resumed or {})
    return make_runner(folder, *hooks, resume=True, load_from=find_resumable(str(folder)), **options)


ACCUMULATING = dict(optimizer=dict(type='AdamW', lr=1e-2), accumulative_counts=2)


@pytest.mark.parametrize(('at', 'wrapper'), [
    (dict(iteration=3), None), (dict(validation=4), None), (dict(iteration=3), ACCUMULATING),
], ids=['training', 'validation', 'accumulating'])
@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, by_epoch, at, wrapper):
    """Workers that load the data are left to tests/dev/test_kill_and_resume.py, where processes end as they do."""
    if by_epoch:  # of two iterations each
        at = {kind: 2 * value for kind, value in at.items()}
    options = dict(by_epoch=by_epoch, optim_wrapper=wrapper)
    expected = train(make_runner(tmp_path / 'alone', ExactResumeHook(), EMAHook(), **options))
    resumed = train_with_interruption(tmp_path / 'killed', ExactResumeHook(), EMAHook(), at=at, **options)
    assert_same_bits(train(resumed), expected)
    last = 'epoch_6.pth' if by_epoch else 'iter_6.pth'
    one, other = (read_checkpoint(tmp_path / run / last) for run in ('alone', 'killed'))
    assert_same_bits(one['ema_state_dict'], other['ema_state_dict'])
    assert str(one['optimizer']) == str(other['optimizer'])
    assert str(one['param_schedulers']) == str(other['param_schedulers'])


def test_without_the_hook_they_differ(tmp_path):
    """What the tests above would miss if the toy had nothing to get wrong."""
    expected = train(make_runner(tmp_path / 'alone'))
    resumed = train(train_with_interruption(tmp_path / 'killed', at=dict(iteration=3)))
    assert not torch.equal(resumed['head.weight'], expected['head.weight'])


def test_a_seed_that_nobody_chose_is_that_of_the_run(tmp_path):
    options = dict(at=dict(iteration=3), seed=None)
    seen = DataSeen()
    first = train_with_interruption(tmp_path, ExactResumeHook(), seen, **options)
    before, seen.inputs = seen.inputs, {}
    first.train()
    assert torch.equal(before[2], seen.inputs[2]) and sorted(seen.inputs) == [2, 3, 4, 5]


def test_an_evaluation_that_was_interrupted_is_made_up_for(tmp_path):
    options = dict(checkpoint=dict(save_best='score', rule='greater'))
    resumed = train_with_interruption(tmp_path, ExactResumeHook(), at=dict(validation=6), **options)
    assert [p.name for p in tmp_path.glob('best*')] == ['best_score_iter_4.pth']
    resumed.train()
    assert resumed.iter == 6 and [p.name for p in tmp_path.glob('best*')] == ['best_score_iter_6.pth']


def test_every_iteration_and_sample_has_its_own_randomness(tmp_path):
    seen = DataSeen()
    train(make_runner(tmp_path, ExactResumeHook(), seen))
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(seen.inputs.values(), 2))
    fractions = torch.cat(list(seen.inputs.values()))[:, 0]
    assert fractions.unique().numel() == 24


def test_another_batch_size_is_said(tmp_path, monkeypatch):
    runner, said = train_with_interruption(tmp_path, ExactResumeHook(), at=dict(iteration=3)), []
    runner._train_dataloader['batch_size'] = 2
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    runner.train()
    assert any("with {'processes': 1, 'batch_size': 4} and goes on with {'processes': 1, 'batch_size': 2}" in message
               for message in said)


def test_two_deterministic_runs_have_the_same_bits(tmp_path):
    one, other = (train(make_runner(tmp_path / name, ExactResumeHook())) for name in 'ab')
    assert_same_bits(one, other)
    assert not torch.equal(train(make_runner(tmp_path / 'c', ExactResumeHook(), seed=4))['head.weight'],
                           one['head.weight'])


def test_an_epoch_that_ends_between_steps_is_said(tmp_path, monkeypatch):
    wrapper = dict(optimizer=dict(type='AdamW', lr=1e-2), accumulative_counts=3)
    runner, said = make_runner(tmp_path, ExactResumeHook(), by_epoch=True, end=1, optim_wrapper=wrapper), []
    monkeypatch.setattr(runner.logger, 'warning', said.append)
    runner.train()
    assert any('an epoch of 2 batches ends between steps of accumulative_counts=3' in message for message in said)


class Backbone(BaseModel):
    """A RepLKNet whose BatchNorms do not see the batch, and a Linear, in float64."""

    def __init__(self):
        super().__init__()
        arch = dict(large_kernel_sizes=[7, 5], layers=[1, 1], channels=[4, 8], small_kernel=3)
        self.backbone = RepLKNet(arch, out_indices=[1], drop_path_rate=0., norm_eval=True)
        self.head = nn.Linear(8, 1)
        self.double()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        images = torch.stack(inputs).double().reshape(-1, 3, 1, 1).expand(-1, 3, 16, 16)
        values = self.head(self.backbone(images)[-1].mean((2, 3)))
        return dict(loss=values.square().mean()) if mode == 'loss' else [values]


def test_accumulated_batches_make_the_steps_of_a_large_one(tmp_path):
    """Six batches of four samples against twenty-four of one, four to a step, on the same samples."""
    torch.manual_seed(5)
    initial, states = Backbone(), []
    for batch, counts in ((4, 1), (1, 4)):
        wrapper = dict(optimizer=dict(type='SGD', lr=1e-2, momentum=0.9), accumulative_counts=counts)
        runner = make_runner(tmp_path / str(batch), ExactResumeHook(), model=copy.deepcopy(initial), end=6 * counts,
                             val_interval=100, optim_wrapper=wrapper)
        runner._train_dataloader['batch_size'] = batch
        runner.param_schedulers = None  # which count batches, not steps
        states.append(train(runner))
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-9, atol=1e-9)
    assert (states[0]['head.bias'] - initial.head.bias).abs() > 1e-3


PLATEAU = dict(type='ReduceOnPlateauLR', monitor='score', rule='less', patience=1, factor=.5, by_epoch=True)


@pytest.mark.parametrize('at', [dict(iteration=8), dict(validation=8)], ids=['after the validation', 'before it'])
def test_schedules_that_count_validations_count_each_once(tmp_path, at):
    """Every evaluation is the best and saves a checkpoint again, which holds what it did to the schedule."""
    options = dict(by_epoch=True, param_scheduler=PLATEAU, val_interval=1,
                   checkpoint=dict(save_best='score', rule='greater'))
    expected = train(make_runner(tmp_path / 'alone', ExactResumeHook(), **options))
    resumed = train_with_interruption(tmp_path / 'killed', ExactResumeHook(), at=at, **options)
    assert_same_bits(train(resumed), expected)
    one, other = (read_checkpoint(tmp_path / run / 'epoch_6.pth') for run in ('alone', 'killed'))
    assert one['optimizer']['param_groups'][0]['lr'] == other['optimizer']['param_groups'][0]['lr'] < 1e-2
    for name in ('last_step', '_global_step', 'num_bad_epochs'):
        assert one['param_schedulers'][0][name] == other['param_schedulers'][0][name], name


def test_checkpoints_in_the_middle_of_an_epoch_are_refused_before_training(tmp_path):
    runner = make_runner(tmp_path, ExactResumeHook(), by_epoch=True, checkpoint=dict(by_epoch=False, interval=3))
    with pytest.raises(InputError, match=r'saves every 3 iterations, in the middle of epochs of 2, .*by_epoch=True'):
        runner.train()
    assert runner.iter == 0
    make_runner(tmp_path, ExactResumeHook(), by_epoch=True, checkpoint=dict(by_epoch=False, interval=4), end=2).train()


def test_an_epoch_does_not_go_on_in_its_middle(tmp_path):
    make_runner(tmp_path, CheckpointHook(3, by_epoch=False), by_epoch=True, end=2).train()
    runner = make_runner(tmp_path, ExactResumeHook(), by_epoch=True, resume=True, load_from=f'{tmp_path}/iter_3.pth')
    with pytest.raises(InputError, match='saved after 3 iterations, in the middle of an epoch of 2'):
        runner.train()
