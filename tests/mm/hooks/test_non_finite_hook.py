"""Losses and gradients that are not numbers, in real runs of MMEngine."""

import json

import pytest
import torch
from mmengine.hooks import Hook
from torch import nn

from mmreplk import InputError, ReparamLargeKernelConv
from mmreplk.mm import CPUAmpOptimWrapper, NonFiniteHook
from mmreplk.mm.hooks.non_finite_hook import first_non_finite
from mmreplk.mm.processes import join_processes
from mmreplk.mm.runner import build_runner
from mmreplk.weights import read_checkpoint
from tests.conftest import assert_same_bits, copied_state
from tests.mm.hooks.toy import Toy, make_runner, toy_config
from tests.processes import in_two_processes

AMP = dict(type=CPUAmpOptimWrapper, dtype='float16', optimizer=dict(type='AdamW', lr=1e-2))


class Before(Hook):
    """Keeps the state at the beginning of an iteration (from 1)."""
    priority = 'LOWEST'

    def __init__(self, iteration):
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration:
            self.state = copied_state(runner.model)


class InfiniteGradient(Toy):
    """The loss is finite, but its gradient is not: the square root of zero."""

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        if self.count in self.poisoned and kwargs.get('mode') == 'loss':
            out['loss'] = (out['loss'] * 0).sqrt()
        return out


class InfiniteLoss(Toy):
    """The loss is infinite, but its gradient is not: what is added to it is constant."""

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        if self.count in self.poisoned and kwargs.get('mode') == 'loss':
            out['loss'] = out['loss'] + float('inf')
        return out


def notes(folder):
    return [json.loads(line) for line in (folder / 'non_finite.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('wrapper', [None, AMP], ids=['float32', 'float16'])
@pytest.mark.parametrize('poison', [float('nan'), float('inf')])
def test_a_loss_that_is_no_number_stops_the_training(tmp_path, poison, wrapper):
    before, model = Before(5), Toy(poisoned=[5], poison=poison)
    runner = make_runner(tmp_path, NonFiniteHook(), before, model=model, optim_wrapper=wrapper)
    with pytest.raises(InputError, match=r'the loss is nan in iteration 5.* \d.png.*iter_4.pth is the last checkpoint'):
        runner.train()
    weights = {name: tensor for name, tensor in model.state_dict().items() if name.startswith('head')}
    assert_same_bits(weights, {name: before.state[name] for name in weights})
    [note] = notes(tmp_path)
    assert note['iteration'] == 5 and len(note['files']) == 4 and note['files'][0].endswith('.png')
    saved = read_checkpoint(tmp_path / 'iter_4.pth')['state_dict']
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_4.pth')
    assert all(tensor.isfinite().all() for tensor in saved.values())


@pytest.mark.parametrize('wrapper', [None, AMP], ids=['float32', 'float16'])
@pytest.mark.parametrize('kind', [Toy, InfiniteLoss])
def test_a_step_is_left_out(tmp_path, kind, wrapper):
    """The poisoned batch leaves nothing behind: neither in the weights nor in the statistics of the BatchNorm."""
    before, after = Before(2), Before(3)
    model = kind(poisoned=[2]) if kind is Toy else kind(poisoned=[2], poison=1.0)
    make_runner(tmp_path, NonFiniteHook('skip'), before, after, model=model, optim_wrapper=wrapper).train()
    assert_same_bits(after.state, before.state)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert not torch.equal(model.head.weight, after.state['head.weight'])
    assert [note['iteration'] for note in notes(tmp_path)] == [2]


def test_a_gradient_that_is_no_number(tmp_path):
    before, after, model = Before(2), Before(3), InfiniteGradient(poisoned=[2], poison=1.0)
    make_runner(tmp_path, NonFiniteHook('skip'), before, after, model=model).train()
    assert torch.equal(after.state['head.weight'], before.state['head.weight'])
    assert 'the gradient of norm.weight is not finite' in notes(tmp_path)[0]['what']
    with pytest.raises(InputError, match='the gradient of norm.weight is not finite in iteration 3'):
        make_runner(tmp_path, NonFiniteHook(), model=InfiniteGradient(poisoned=[3], poison=1.0)).train()


@pytest.mark.parametrize('wrapper', [None, AMP], ids=['float32', 'float16'])
def test_too_many_in_a_row(tmp_path, wrapper):
    make_runner(tmp_path, NonFiniteHook('skip', 2), model=Toy(poisoned=[1, 2, 4, 5]), optim_wrapper=wrapper).train()
    with pytest.raises(InputError, match='after 2 steps in a row that were left out.*in iteration 4'):
        make_runner(tmp_path, NonFiniteHook('skip', 2), model=Toy(poisoned=[2, 3, 4]), optim_wrapper=wrapper).train()


def test_accumulated_gradients_are_left_out_together(tmp_path):
    wrapper = dict(optimizer=dict(type='AdamW', lr=1e-2), accumulative_counts=2)
    before, after = Before(3), Before(5)
    make_runner(tmp_path, NonFiniteHook('skip'), before, after, model=Toy(poisoned=[3]), optim_wrapper=wrapper).train()
    assert torch.equal(after.state['head.weight'], before.state['head.weight'])
    assert after.state['norm.running_mean'].isfinite().all()


def test_an_overflow_in_a_large_convolution_is_located():
    """The sum over 31x31 taps is exact in float32 and too large for float16."""
    model = nn.Sequential(nn.Conv2d(4, 4, 1), ReparamLargeKernelConv(4, 4, 31, groups=4, small_kernel=5))
    nn.init.constant_(model[1].lkb_origin.conv.weight, 10.0)
    nn.init.constant_(model[0].bias, 10.0)

    def run():
        with torch.autocast('cpu', dtype=torch.float16):
            model(torch.zeros(2, 4, 40, 40))

    assert first_non_finite(model, run) == ('1.lkb_origin.conv', torch.float16)
    assert first_non_finite(model, lambda: model(torch.zeros(2, 4, 40, 40))) is None


class Overflowing(Toy):
    """Hands out more than float16 holds, in its Linear layer."""

    def __init__(self):
        super().__init__()
        nn.init.constant_(self.head.bias, 1e5)


def test_an_overflow_is_said_to_be_one(tmp_path):
    runner = make_runner(tmp_path, NonFiniteHook(), model=Overflowing(), optim_wrapper=AMP)
    with pytest.raises(InputError, match='come out of head in float16, which holds no number above 65504: bfloat16'):
        runner.train()


def test_training_again_with_the_same_runner(tmp_path):
    runner = make_runner(tmp_path, NonFiniteHook(), end=2)
    runner.train()
    runner.train_loop._max_iters = 4
    runner.train()
    assert runner.iter == 4


@pytest.mark.parametrize('arguments', [dict(action='hope'), dict(max_skips=0), dict(max_skips=True + .5)])
def test_arguments(arguments):
    with pytest.raises(InputError, match='of NonFiniteHook must be'):
        NonFiniteHook(**arguments)


class Gradients(Hook):
    """Keeps the gradients of an iteration, which MMEngine drops after the step."""

    def before_train(self, runner):
        step = runner.optim_wrapper.step

        def keeping(**kwargs):
            self.kept = torch.cat([p.grad.flatten() for p in runner.model.parameters()])
            step(**kwargs)

        runner.optim_wrapper.step = keeping


class LargeGradient(Toy):
    """The loss and its gradients are finite, the sum of their squares is not."""

    def forward(self, *args, **kwargs):
        out = super().forward(*args, **kwargs)
        if kwargs.get('mode') == 'loss':
            out['loss'] = out['loss'] * 1e25
        return out


def test_large_gradients_are_numbers(tmp_path):
    gradients = Gradients()
    runner = make_runner(tmp_path, gradients, NonFiniteHook(), model=LargeGradient())
    runner.train()
    assert runner.iter == 6 and not (tmp_path / 'non_finite.jsonl').exists()
    assert gradients.kept.isfinite().all() and not gradients.kept.norm().isfinite()


def test_statistics_go_back_to_the_last_step_where_gradients_alone_are_no_numbers(tmp_path):
    before, after, model = Before(2), Before(3), InfiniteGradient(poisoned=[2], poison=1.0)
    make_runner(tmp_path, NonFiniteHook('skip'), before, after, model=model).train()
    assert_same_bits(after.state, before.state)


def train_in_one_of_two(work_dir, wrapper):
    """Poisons the third batch of the first process alone, and returns what the second has before and after it."""
    cfg = toy_config(work_dir)
    cfg.launcher = 'pytorch'
    join_processes(cfg)
    model = dict(type='Toy', poisoned=[3] if torch.distributed.get_rank() == 0 else [])
    cfg.update(model=model, optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2), **wrapper))
    runner, before, after = build_runner(cfg), Before(3), Before(5)
    for hook in (NonFiniteHook('skip'), before, after):
        runner.register_hook(hook)
    runner.train()
    return before.state, after.state


@pytest.mark.parametrize('counts', [1, 2])
def test_all_processes_leave_a_step_out_together(tmp_path, counts):
    """With one iteration a step, the fourth is an ordinary one; with two, it is left out with the third."""
    states = in_two_processes(train_in_one_of_two, str(tmp_path), dict(accumulative_counts=counts))
    for before, after in states:
        assert all(tensor.isfinite().all() for tensor in after.values())
        assert torch.equal(before['module.head.weight'], after['module.head.weight']) == (counts == 2)
        if counts == 2:
            assert_same_bits(after, before)
    assert torch.equal(states[0][1]['module.head.weight'], states[1][1]['module.head.weight'])
