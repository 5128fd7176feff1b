import copy
import re

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from torch import nn

from mmreplk import InputError
from mmreplk.mm import ExactResumeHook, KeepSparsityHook, ReparamHook, SLaK, SparseTrainingHook
from mmreplk.weights import read_checkpoint
from tests.conftest import assert_same_bits, copied_state
from tests.mm.hooks.classifier import Classifier, Losses, Pictures, Plain, make_runner
from tests.mm.hooks.toy import InterruptAt, Interrupted
from tests.processes import in_two_processes

ARCH = dict(layers=[1, 1], channels=[4, 8], large_kernel_sizes=[9, 7])
ADAM = dict(type='AdamW', lr=1e-2)
ACCUMULATING = dict(optimizer=ADAM, accumulative_counts=2)
FLOAT16 = dict(type='CPUAmpOptimWrapper', optimizer=ADAM, dtype='float16', loss_scale=1024.)


def classifier(seed=0, **options):
    torch.manual_seed(seed)
    return Classifier(SLaK(ARCH, out_indices=[1], layer_scale=1., **options))


def sparse(**options):
    return SparseTrainingHook(**dict(dict(sparsity=.4, update_interval=2, prune_rate=.5), **options))


def train(folder, *hooks, model=None, **options):
    runner = make_runner(folder, *hooks, model=model or classifier(), **options)
    runner.train()
    return runner


def weights(model):
    return {name: p for name, p in model.named_parameters() if name.startswith('backbone.') and p.ndim > 1}


def saved_by(folder, iteration):
    return read_checkpoint(folder / f'iter_{iteration}.pth')


def masks_of(checkpoint):
    saved = checkpoint['sparse_training']
    return dict(zip(saved['layers'], saved['masks'], strict=True))


def masks_in(folder, iteration):
    return masks_of(saved_by(folder, iteration))


class Steps(Hook):
    """Keeps weights, masks and momentum after every iteration, and the model as the first step finds it."""
    priority = 'LOWEST'

    def __init__(self, hook):
        self.hook, self.seen, self.first = hook, [], None

    def before_train_iter(self, runner, *args, **kwargs):
        if self.first is None:
            self.first = copied_state(runner.model)
            assert all(p.grad is None for p in runner.model.parameters())

    def after_train_iter(self, runner, *args, **kwargs):
        checkpoint = {}
        self.hook.before_save_checkpoint(runner, checkpoint)
        momentum = {name: state['momentum_buffer'].clone() for name, p in weights(runner.model).items()
                    if 'momentum_buffer' in (state := runner.optim_wrapper.optimizer.state[p])}
        self.seen.append(dict(
            weights={name: p.detach().clone() for name, p in weights(runner.model).items()},
            masks={name: mask.clone() for name, mask in masks_of(checkpoint).items()},
            momentum=momentum, steps=checkpoint['sparse_training']['steps']))


def trained_steps(folder, *hooks, hook=None, **options):
    hook = hook or sparse()
    steps = Steps(hook)
    runner = train(folder, hook, steps, *hooks, **options)
    return steps, runner


def test_layers_keep_what_the_first_batch_says(tmp_path):
    """Against the same gradients in float64, which PyTorch computes alone."""
    options = dict(drop_path_rate=0.)
    seen = Steps(sparse())
    runner = make_runner(tmp_path, seen.hook, seen, model=classifier(**options), max_iters=2)
    batch = next(iter(runner.train_dataloader))
    runner = make_runner(tmp_path, seen.hook, seen, model=classifier(**options), max_iters=2)
    runner.train()
    start = classifier(**options)
    exact = copy.deepcopy(start).double()
    exact(batch['inputs'].double(), batch['label'], mode='loss')['loss'].backward()
    scores = {name: (p * p.grad).abs() for name, p in weights(exact).items()}
    total = sum(score.numel() for score in scores.values())
    keeps = round(.6 * total)
    threshold = torch.cat([score.flatten() for score in scores.values()]).sort(descending=True).values[keeps - 1]
    masks = masks_in(tmp_path, 2)
    assert sum(int(mask.sum()) for mask in masks.values()) == keeps
    differences = [abs(int(masks[name].sum()) - int((score >= threshold).sum())) for name, score in scores.items()]
    assert sum(differences) <= 2, 'but for rounding at the threshold'
    assert len({round(float(mask.float().mean()), 2) for mask in masks.values()}) > 3, 'the layers differ'
    before, after = copied_state(start), seen.first
    for name, tensor in before.items():
        if name in scores:
            assert ((after[name] == tensor) | (after[name] == 0)).all(), name
        else:
            assert torch.equal(after[name], tensor), f'{name} is as it was'


def test_the_first_batch_is_trained_on_as_it_was(tmp_path):
    """Though preprocessors may write into what they are given."""
    seen = []

    class Writing(Classifier):

        def forward(self, inputs, label, mode='tensor'):
            seen.append(inputs.clone())
            return super().forward(inputs.mul_(2), label, mode)

    train(tmp_path, sparse(), model=Writing(classifier().backbone), max_iters=1)
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize('growth', ['random', 'gradient'])
@pytest.mark.parametrize('wrapper', [
    dict(optimizer=ADAM),
    dict(optimizer=dict(type='SGD', lr=.1, momentum=.9)),
    ACCUMULATING,
    dict(type='CPUAmpOptimWrapper', optimizer=ADAM, dtype='bfloat16'),
    FLOAT16,
], ids=['adamw', 'sgd', 'accumulating', 'bfloat16', 'float16'])
def test_weights_are_exchanged_and_begin_at_zero(tmp_path, wrapper, growth):
    steps, _ = trained_steps(tmp_path, hook=sparse(growth=growth), optim_wrapper=wrapper, max_iters=6)
    every = 2 * wrapper.get('accumulative_counts', 1)
    counts = {name: mask.sum() for name, mask in steps.seen[0]['masks'].items()}
    before = None
    for i, now in enumerate(steps.seen, 1):
        was_updated = i % every == 0 and i < 6
        for name, mask in now['masks'].items():
            assert mask.sum() == counts[name] and (now['weights'][name][~mask] == 0).all()
            if name in now['momentum']:
                assert (now['momentum'][name][~mask] == 0).all()
            if before and not was_updated:
                assert torch.equal(mask, before['masks'][name])
            if before and was_updated:
                grown = mask & ~before['masks'][name]
                assert (now['weights'][name][grown] == 0).all()
                if name in now['momentum']:
                    assert (now['momentum'][name][grown] == 0).all()
        if was_updated:
            assert any(not torch.equal(now['masks'][name], before['masks'][name]) for name in counts)
        before = now
    assert before['steps'] == 6 // wrapper.get('accumulative_counts', 1)
    for name, weight in before['weights'].items():
        assert not torch.equal(weight, steps.first[name]), f'{name} was trained'


def test_steps_that_the_scaler_leaves_out_do_not_count(tmp_path):
    wrapper = dict(type='CPUAmpOptimWrapper', optimizer=ADAM, dtype='float16', loss_scale=dict(init_scale=2.**60))
    steps, _ = trained_steps(tmp_path, optim_wrapper=wrapper, max_iters=4)
    assert [now['steps'] for now in steps.seen] == [0, 0, 0, 0]
    for name, mask in steps.seen[-1]['masks'].items():
        assert torch.equal(mask, steps.seen[0]['masks'][name])
        assert (steps.seen[-1]['weights'][name][~mask] == 0).all()


def official_average(average, weight, mask, decay):
    has_grown = (average == 0) & mask
    return (average * decay + weight * (1 - decay)) * mask + has_grown * decay * weight


def test_averaged_weights_are_the_official_ones(tmp_path):
    ema = EMAHook(momentum=.1)
    steps, _ = trained_steps(tmp_path, ema, max_iters=6)
    averages = dict(steps.seen[0]['weights'])
    for now in steps.seen[1:]:
        for name, mask in now['masks'].items():
            averages[name] = official_average(averages[name], now['weights'][name], mask, .9)
    for name, weight in weights(ema.ema_model.module).items():
        torch.testing.assert_close(weight, averages[name], rtol=1e-5, atol=1e-7)
        assert (weight[~steps.seen[-1]['masks'][name]] == 0).all()


@pytest.mark.parametrize(('interval', 'at', 'wrapper', 'growth'), [
    (3, 3, None, 'random'), (2, 3, None, 'random'), (3, 5, None, 'gradient'), (1, 3, ACCUMULATING, 'random'),
    (2, 5, FLOAT16, 'gradient'),
], ids=['before an exchange', 'at one', 'after one', 'accumulating', 'float16'])
def test_a_resumed_run_has_the_same_bits(tmp_path, interval, at, wrapper, growth):
    options = dict(max_iters=8, optim_wrapper=wrapper or dict(optimizer=ADAM))

    def hooks():
        return ExactResumeHook(), sparse(update_interval=interval, growth=growth), EMAHook(momentum=.1)

    train(tmp_path / 'whole', *hooks(), **options)
    with pytest.raises(Interrupted):
        train(tmp_path / 'cut', InterruptAt(iteration=at), *hooks(), **options)
    train(tmp_path / 'cut', *hooks(), model=classifier(seed=1), resume=True, **options)
    one, other = (saved_by(tmp_path / name, 8) for name in ('whole', 'cut'))
    assert_same_bits(other['state_dict'], one['state_dict'])
    assert_same_bits(other['ema_state_dict'], one['ema_state_dict'])
    assert_same_bits(masks_of(other), masks_of(one))
    assert str(other['optimizer']) == str(one['optimizer'])
    assert other['sparse_training']['steps'] == one['sparse_training']['steps']
    first = masks_in(tmp_path / 'whole', 2)
    assert any(not torch.equal(mask, first[name]) for name, mask in masks_of(one).items())


def train_in_two(folder, resume):
    torch.distributed.init_process_group('gloo')
    rank = torch.distributed.get_rank()
    hook = sparse()
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None)
    # Seeds, and so masks that each would draw alone, differ.
    steps, runner = trained_steps(folder, hook=hook, model=classifier(seed=rank), seed=3 + rank, resume=resume,
                                  max_iters=6 if resume else 4, launcher='pytorch',
                                  cfg=dict(model_wrapper_cfg=wrapper))
    return dict(masks=[now['masks'] for now in steps.seen], weights=weights(runner.model.module))


@pytest.mark.parametrize('resume', [False, True])
def test_all_processes_have_the_masks_of_the_first(tmp_path, resume):
    for first_run in (True, False)[:1 + resume]:
        both = in_two_processes(train_in_two, str(tmp_path), not first_run)
        for result in both:
            assert not isinstance(result, Exception), result
        first, second = both
        assert len(first['masks']) == (4 if first_run else 2)
        for one, other in zip(first['masks'], second['masks'], strict=True):
            assert_same_bits(one, other)
        assert_same_bits(first['weights'], second['weights'])


def test_recomputing_and_merged_evaluation_change_nothing(tmp_path):
    losses = []
    for name, hooks, options in (('plain', (), {}), ('merged', (ReparamHook(check=True), ), dict(with_cp=True))):
        losses.append(Losses())
        train(tmp_path / name, sparse(), *hooks, losses[-1], ExactResumeHook(), model=classifier(**options))
    assert losses[0].losses == losses[1].losses
    assert_same_bits(masks_in(tmp_path / 'plain', 6), masks_in(tmp_path / 'merged', 6))


def test_what_was_trained_is_a_sparse_checkpoint_like_any_other(tmp_path):
    train(tmp_path / 'trained', sparse(), EMAHook(momentum=.5))
    saved = saved_by(tmp_path / 'trained', 6)
    tuned = train(tmp_path / 'tuned', KeepSparsityHook(), model=classifier(seed=1),
                  load_from=str(tmp_path / 'trained' / 'iter_6.pth'))
    for name, weight in weights(tuned.model).items():
        assert torch.equal(weight == 0, saved['state_dict'][name] == 0), name
    zeros = sum(int((weight == 0).sum()) for weight in weights(tuned.model).values())
    assert zeros >= .399 * sum(weight.numel() for weight in weights(tuned.model).values())


def test_any_model_and_all_of_it_can_be_sparse(tmp_path):
    for module, names in (('backbone', ['backbone.conv.weight']), ('', ['backbone.conv.weight', 'head.weight'])):

        class Small(Plain):

            def forward(self, x):
                return [super().forward(x)[0]]

        train(tmp_path / f'of_{module}', sparse(module=module), model=Classifier(Small()))
        assert [*masks_in(tmp_path / f'of_{module}', 6)] == names


@pytest.mark.parametrize(('options', 'words'), [
    (dict(sparsity=1.), 'sparsity of SparseTrainingHook must be a number between 0 and 1, got 1.0'),
    (dict(sparsity='0.4'), "sparsity of SparseTrainingHook must be a number between 0 and 1, got '0.4'"),
    (dict(prune_rate=0), 'prune_rate of SparseTrainingHook must be a number between 0 and 1, got 0'),
    (dict(update_interval=0), 'update_interval of SparseTrainingHook must be a positive integer, got 0'),
    (dict(growth='momentum'), "growth of SparseTrainingHook must be 'random' or 'gradient', got 'momentum'"),
])
def test_arguments_that_do_not_fit_are_refused(options, words):
    with pytest.raises(InputError, match=re.escape(words)):
        SparseTrainingHook(**options)


class NoLayers(nn.Module):

    def forward(self, x):
        return (x.repeat(1, 3, 1, 1)[:, :8], )


def frozen():
    model = classifier()
    model.backbone.requires_grad_(False)
    return model


@pytest.mark.parametrize(('module', 'model', 'words'), [
    ('neck', classifier, "is to make 'neck' sparse, which Classifier does not have"),
    ('backbone', lambda: Classifier(NoLayers()), "found no convolution or linear layer that is trained in 'backbone'"),
    ('backbone', frozen, "found no convolution or linear layer that is trained in 'backbone' of Classifier"),
])
def test_models_without_such_layers_are_refused(tmp_path, module, model, words):
    with pytest.raises(InputError, match=words):
        train(tmp_path, sparse(module=module), model=model())


def test_a_first_batch_without_finite_gradients_is_refused(tmp_path):
    pictures = Pictures(8)
    pictures.images.fill_(float('inf'))
    loader = dict(num_workers=0, collate_fn=dict(type='default_collate'), dataset=pictures, batch_size=4,
                  sampler=dict(type='InfiniteSampler', shuffle=True))
    with pytest.raises(InputError, match='by the gradients of the first batch, which are not all finite'):
        train(tmp_path, sparse(), train_dataloader=loader)


@pytest.mark.parametrize(('before', 'after', 'words'), [
    ([], {}, 'has no masks of SparseTrainingHook, so its run cannot go on sparsely: remove the hook'),
    ([sparse()], dict(sparsity=.5), 'is of a run with sparsity=0.4 in SparseTrainingHook, the config says 0.5'),
    ([sparse()], dict(growth='gradient'), "is of a run with growth='random' in SparseTrainingHook, the config says 'g"),
    ([sparse()], dict(module='head'), "has masks of SparseTrainingHook for other layers than those of 'head'"),
])
def test_a_run_that_cannot_go_on_is_refused(tmp_path, before, after, words):
    train(tmp_path, *before)
    with pytest.raises(InputError, match=words):
        train(tmp_path, sparse(**after), max_iters=8, resume=True)
