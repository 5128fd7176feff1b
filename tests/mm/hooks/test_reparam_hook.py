"""The hook in real runs of MMEngine, with a real network that is small."""

import copy
import logging

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook

from mmreplk import InputError, merging
from mmreplk.mm import ReparamHook
from mmreplk.weights import read_checkpoint
from tests.conftest import assert_same_bits, copied_state
from tests.mm.hooks.classifier import Classifier, Losses, Pictures, Plain, make_runner
from tests.processes import in_two_processes


def is_merged(backbone):
    """Whether its large kernels rest while it runs."""
    ran = []
    large_kernel = backbone.stages[0].blocks[0].large_kernel
    handle = large_kernel.lkb_origin.conv.register_forward_hook(lambda *_: ran.append(1))
    mode = backbone.training
    with torch.no_grad(), torch.random.fork_rng():
        backbone.eval()(torch.randn(1, 3, 32, 32))
    backbone.train(mode)
    handle.remove()
    return not ran


class Witness(Hook):
    """Compares the whole state before, during and after each evaluation."""
    priority = 'LOWEST'

    def __init__(self):
        self.merged, self.evaluations = [], 0

    def _snapshot(self, runner):
        model = runner.model
        return dict(
            state=copied_state(model),
            ids=[id(p) for p in model.parameters()] + [id(b) for b in model.buffers()],
            names=[n for n, _ in model.named_modules()],
            optimizer=copy.deepcopy(runner.optim_wrapper.state_dict()),
            rng=torch.get_rng_state())

    def _compare(self, runner):
        now = self._snapshot(runner)
        assert_same_bits(now['state'], self.before['state'])
        assert now['ids'] == self.before['ids'] and now['names'] == self.before['names']
        assert str(now['optimizer']) == str(self.before['optimizer'])
        return now

    def before_val(self, runner):
        self.before = self._snapshot(runner)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.merged.append(is_merged(runner.model.backbone))
        self._compare(runner)

    def after_val(self, runner):
        self.evaluations += 1
        assert torch.equal(self._compare(runner)['rng'], self.before['rng'])
        assert not is_merged(runner.model.backbone)


def test_evaluation_runs_merged_and_leaves_no_trace(tmp_path):
    witness = Witness()
    make_runner(tmp_path, ReparamHook(), witness).train()
    assert witness.evaluations == 3 and len(witness.merged) == 6 and all(witness.merged)


def test_validating_does_not_change_the_loss_curve(tmp_path):
    curves = []
    for interval in (2, 100):
        losses = Losses()
        make_runner(tmp_path / str(interval), ReparamHook(), losses, val_interval=interval).train()
        curves.append(losses.losses)
    assert len(curves[0]) == 6 and curves[0] == curves[1]


def test_metrics_are_those_of_the_unmerged_model(tmp_path):
    runner = make_runner(tmp_path, ReparamHook())
    runner.train()
    merged = torch.tensor(runner.val()['logits'])
    pictures = Pictures(4)
    with torch.no_grad():
        unmerged = [runner.model.eval()(pictures.images[i:i + 2], None)[0].flatten() for i in (0, 2)]
    torch.testing.assert_close(merged, torch.cat(unmerged), rtol=1e-4, atol=1e-6)


def test_an_evaluation_computes_in_bfloat16_if_asked(tmp_path):
    hook = ReparamHook(dtype='bfloat16', check=True)
    runner = make_runner(tmp_path, hook)
    runner.train()
    low, image = torch.tensor(runner.val()['logits']), torch.randn(1, 3, 32, 32)
    hook.before_val_epoch(runner)
    with torch.no_grad():
        assert all(torch.equal(f, f.bfloat16().float()) for f in runner.model.eval().backbone(image))
    hook.after_val_epoch(runner)
    pictures = Pictures(4)
    with torch.no_grad():
        own = torch.cat([runner.model.eval()(pictures.images[i:i + 2], None)[0].flatten() for i in (0, 2)])
    assert 0 < (low - own).abs().max() <= 5e-2 * own.abs().max()
    for wrong, words in ((dict(dtype='half'), 'one of float32, bfloat16'),
                         (dict(dtype='bfloat16', fuse_bn=False), 'needs fuse_bn=True')):
        with pytest.raises(InputError, match=words):
            ReparamHook(**wrong)


def test_averaged_weights_are_the_ones_merged(tmp_path):
    seen = {}

    class Compare(Hook):
        priority = 'LOWEST'

        def before_val_iter(self, runner, batch_idx, data_batch=None):
            # At this point EMAHook has put the averaged weights into the model and the trained ones into its own.
            ema = next(h for h in runner.hooks if type(h).__name__ == 'EMAHook')
            image = torch.ones(1, 3, 32, 32)
            merged = runner.model.backbone(image)[0]
            averaged = type(runner.model.backbone).forward(runner.model.backbone, image)[0]
            trained = ema.ema_model.module.backbone.eval()(image)[0]
            seen.update(merged=merged, averaged=averaged, trained=trained)

    ema = dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.1, update_buffers=True)
    make_runner(tmp_path, ema, ReparamHook(), Compare(), max_iters=2).train()
    torch.testing.assert_close(seen['merged'], seen['averaged'], rtol=1e-4, atol=1e-5)
    assert not torch.equal(seen['merged'], seen['averaged']), 'nothing was merged'
    assert (seen['merged'] - seen['trained']).abs().max() > 1e-3
    saved = read_checkpoint(tmp_path / 'iter_2.pth')
    assert {'state_dict', 'ema_state_dict'} <= set(saved) and not [k for k in saved['state_dict'] if 'reparam' in k]


class Fails(BaseMetric):

    def process(self, data_batch, data_samples):
        raise ZeroDivisionError

    def compute_metrics(self, results):
        return {}


def test_an_evaluation_that_raises_is_cleaned_up(tmp_path):
    runner = make_runner(tmp_path, ReparamHook(), metric=Fails())
    with pytest.raises(ZeroDivisionError):
        runner.train()
    assert not is_merged(runner.model.backbone)


@pytest.mark.parametrize(('model', 'words'), [
    (Classifier, 'evaluating with 2 large-kernel layers merged and 18 BatchNorms folded'),
    (lambda: Classifier(Plain()), 'evaluating with 0 large-kernel layers merged and 0 BatchNorms folded'),
])
def test_it_says_once_what_it_merged(tmp_path, caplog, model, words):
    runner = make_runner(tmp_path, ReparamHook(), model=model())
    runner.logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        runner.train()
    assert [r.getMessage() for r in caplog.records if 'ReparamHook:' in r.getMessage()] == [
        next(r.getMessage() for r in caplog.records if words in r.getMessage())
    ]


def test_a_run_that_evaluated_merged_can_be_resumed(tmp_path):
    make_runner(tmp_path, ReparamHook(), max_iters=4).train()
    losses = Losses()
    resumed = make_runner(tmp_path, ReparamHook(), losses, resume=True)
    resumed.train()
    assert len(losses.losses) == 2 and resumed.iter == 6
    saved = read_checkpoint(tmp_path / 'iter_6.pth')
    assert_same_bits(saved['state_dict'], resumed.model.state_dict())


def test_check_stops_with_the_figure(tmp_path, monkeypatch):
    make_runner(tmp_path / 'sound', ReparamHook(check=True), max_iters=2).train()
    # Less than rounding explains.
    monkeypatch.setitem(merging.TOLERANCE, torch.float32, 0.)
    make_runner(tmp_path / 'unchecked', ReparamHook(), max_iters=2).train()
    runner = make_runner(tmp_path / 'checked', ReparamHook(check=True), max_iters=2)
    with pytest.raises(InputError, match=r'merged form of RepLKNet differs by \d.*e-\d+ of the largest value'):
        runner.train()
    assert not is_merged(runner.model.backbone)


class Buffers(Hook):
    """Keeps the buffers of this process before, in and after an evaluation."""
    priority = 'LOWEST'

    def _keep(self, when, runner):
        setattr(self, when, [buffer.clone() for buffer in runner.model.buffers()])

    def before_val(self, runner):
        self._keep('before', runner)

    def before_val_iter(self, runner, *args, **kwargs):
        self._keep('during', runner)

    def after_run(self, runner):
        self._keep('after', runner)


class Shift(Hook):
    """Gives each process other running statistics, as BatchNorms without SyncBN do."""
    priority = 'VERY_HIGH'

    def before_val(self, runner):
        for buffer in runner.model.buffers():
            buffer += runner.rank


def evaluate_in_two(work_dir, averaged, fails):
    torch.distributed.init_process_group('gloo')
    buffers = Buffers()
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    runner = make_runner(work_dir, ReparamHook(), Shift(), buffers, *averaged, max_iters=2,
                         metric=Fails() if fails else None, launcher='pytorch', cfg=dict(model_wrapper_cfg=wrapper))
    try:
        runner.train()
    except ZeroDivisionError:
        buffers.after_run(runner)
    return vars(buffers)


@pytest.mark.parametrize(('averaged', 'fails'), [
    ([], False), ([dict(type='EMAHook', update_buffers=True)], False), ([], True)
], ids=['plain', 'averaged', 'fails'])
def test_the_other_processes_get_their_own_statistics_back(tmp_path, averaged, fails):
    first, second = in_two_processes(evaluate_in_two, str(tmp_path), averaged, fails)
    assert not all(torch.equal(a, b) for a, b in zip(first['before'], second['before'], strict=True)), 'they differ'
    assert all(torch.equal(a, b) for a, b in zip(first['during'], second['during'], strict=True))
    for own in (first, second):
        for before, after in zip(own['before'], own['after'], strict=True):
            assert torch.equal(before, after), (before, after)
