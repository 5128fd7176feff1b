"""Sparse training from scratch."""

import copy
import math
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ... import sparsity as sparse
from ...errors import InputError
from ..data.seeded import SPARSITY
from ..internals import accumulative_counts, checkpoint_of, is_resuming
from ..wrappers import unwrapped


@HOOKS.register_module()
class SparseTrainingHook(Hook):
    """Trains a network with only a share of its weights and exchanges some of them as it goes, as SLaK was pre-trained.

    The first batch decides how many weights each convolution and linear layer keeps (SNIP); which ones is drawn at
    random. All others are zero after every step. Every ``update_interval`` steps each layer drops its smallest weights
    and grows as many of those that it then lacks, from zero or, if they were just dropped, from their old value. The
    share exchanged falls by a cosine to half a percent at the end. A layer always has the same number of weights.

    Averaged weights (``EMAHook``) have the same zeros. Steps that a loss scaler leaves out do not count. What is random
    follows from the run's seed, and checkpoints hold the masks, so a resumed run goes on as it would have without the
    interruption. All processes have the masks of the first.

    Args:
        sparsity: Which share of the weights is zero, over all layers, between 0 and 1.
        update_interval: After how many steps of the optimizer weights are exchanged. SLaK-T: 2000; S and B: 100.
        prune_rate: Which share of a layer's weights is exchanged at first, between 0 and 1. SLaK-T: 0.5; S and B: 0.3.
        growth: Which weights grow: ``'random'`` ones, or those with the largest ``'gradient'`` at that step.
        module: Which part of the model is sparse; ``''`` is all of it.

    Raises:
        InputError: If an argument is wrong; when training begins, if the model has no such part or nothing in it to
            make sparse, or there are several optimizers; on resuming, if the checkpoint is of a run without this hook,
            or with other arguments.

    Source: see :mod:`mmreplk.sparsity`.
    """

    # After the step of the optimizer and before EMAHook (NORMAL) averages what it left.
    priority = 'HIGH'

    def __init__(self, sparsity: float = 0.4, update_interval: int = 100, prune_rate: float = 0.3,
                 growth: str = 'random', module: str = 'backbone') -> None:
        for name, share in (('sparsity', sparsity), ('prune_rate', prune_rate)):
            if not isinstance(share, (int, float)) or not 0 < share < 1:
                raise InputError(f'{name} of SparseTrainingHook must be a number between 0 and 1, got {share!r}')
        if not isinstance(update_interval, int) or update_interval < 1:
            raise InputError('update_interval of SparseTrainingHook must be a positive integer, got '
                             f'{update_interval!r}')
        if growth not in ('random', 'gradient'):
            raise InputError(f"growth of SparseTrainingHook must be 'random' or 'gradient', got {growth!r}")
        self.module = module
        self._options = dict(sparsity=float(sparsity), update_interval=update_interval, prune_rate=float(prune_rate),
                             growth=growth)
        self._masks, self._steps, self._handle = {}, 0, None

    def before_train(self, runner: Runner) -> None:
        """Finds the weights and has itself called after each step of the optimizer."""
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapperDict):
            raise InputError('SparseTrainingHook follows one optimizer; remove it from custom_hooks where there are '
                             'several')
        self._weights = self._find_weights(runner)
        shapes = {name: tuple(mask.shape) for name, mask in self._masks.items()}
        if shapes and shapes != {name: tuple(weight.shape) for name, weight in self._weights.items()}:
            raise InputError(f'the checkpoint has masks of SparseTrainingHook for other layers than those of '
                             f'{self.module!r} that are trained here')
        self._masks = {name: mask.to(self._weights[name].device) for name, mask in self._masks.items()}
        self._seed = runner.seed
        self._total_steps = math.ceil(runner.max_iters / accumulative_counts(wrapper))
        if self._handle is not None:  # of an earlier call of train()
            self._handle.remove()
        self._handle = wrapper.optimizer.register_step_post_hook(self._after_step)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Draws the masks before the first step, by the gradients of its batch."""
        if self._masks:
            return
        weights, sparsity = [*self._weights.values()], self._options['sparsity']
        counts = sparse.snip_counts(weights, _gradients(runner, data_batch, weights), sparsity)
        generator = self._generator()
        self._masks = {name: sparse.random_mask(weight, count, generator)
                       for (name, weight), count in zip(self._weights.items(), counts, strict=True)}
        self._share_and_apply(runner.optim_wrapper.optimizer)
        densities = [count / weight.numel() for count, weight in zip(counts, weights, strict=True)]
        total = sum(weight.numel() for weight in weights)
        runner.logger.info(f'SparseTrainingHook: {1 - sum(counts) / total:.1%} of {total / 1e6:.1f} million weights '
                           f'are zero; {len(weights)} layers keep {min(densities):.1%} to {max(densities):.1%} of '
                           'theirs.')

    @torch.no_grad()
    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        """Gives averaged weights the zeros, before EMAHook goes on averaging."""
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):
                averages = dict(hook.ema_model.module.named_parameters())
                for name, mask in self._masks.items():
                    sparse.mask_average(averages[name], self._weights[name], mask)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds the masks: weights do not show them, as some are zero by chance or because they have just grown."""
        checkpoint['sparse_training'] = dict(options=self._options, steps=self._steps, layers=[*self._masks],
                                             masks=[mask.cpu() for mask in self._masks.values()])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Takes the masks of the run that is resumed."""
        if not is_resuming(runner):
            return
        saved, source = checkpoint.get('sparse_training'), checkpoint_of(runner) or f'in {runner.work_dir}'
        if not saved or not saved['masks']:
            raise InputError(f'checkpoint {source} has no masks of SparseTrainingHook, so its run cannot go on '
                             'sparsely: remove the hook, or begin a new run with the weights by load_from without '
                             'resume')
        for name, value in self._options.items():
            if saved['options'].get(name) != value:
                raise InputError(f'checkpoint {source} is of a run with {name}={saved["options"].get(name)!r} in '
                                 f'SparseTrainingHook, the config says {value!r}')
        self._masks, self._steps = dict(zip(saved['layers'], saved['masks'], strict=True)), saved['steps']

    def _find_weights(self, runner: Runner) -> dict[str, nn.Parameter]:
        """Returns what is trained and can be sparse, by its name in the model."""
        model = unwrapped(runner.model)
        try:
            module = model.get_submodule(self.module)
        except AttributeError:
            raise InputError(f'SparseTrainingHook is to make {self.module!r} sparse, which {type(model).__name__} does '
                             'not have') from None
        prefix = f'{self.module}.' if self.module else ''
        weights = {prefix + name: weight for name, weight in sparse.sparsifiable(module).items()
                   if weight.requires_grad}
        if not weights:
            raise InputError(f'SparseTrainingHook found no convolution or linear layer that is trained in '
                             f'{self.module!r} of {type(model).__name__}')
        return weights

    def _generator(self) -> torch.Generator:
        """Returns a generator that depends on the seed and the step alone, so that there is no state to keep."""
        word = np.random.SeedSequence((self._seed, SPARSITY, self._steps)).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(word))

    def _after_step(self, optimizer: torch.optim.Optimizer, *_) -> None:
        """Puts the zeros back and, now and then, exchanges weights, while their gradients are still there."""
        self._steps += 1
        sparse.apply_masks(self._weights, self._masks, optimizer)
        # What grows after the last step would never be trained.
        if self._steps % self._options['update_interval'] or self._steps >= self._total_steps:
            return
        rate = sparse.prune_rate_at(self._steps, self._total_steps, self._options['prune_rate'])
        generator, by_gradient = self._generator(), self._options['growth'] == 'gradient'
        for name, mask in self._masks.items():
            weight = self._weights[name]
            gradient = _gradient(weight) if by_gradient else None
            self._masks[name] = sparse.exchange(weight, mask, rate, generator, gradient)
        self._share_and_apply(optimizer)

    def _share_and_apply(self, optimizer: torch.optim.Optimizer) -> None:
        for mask in self._masks.values():
            broadcast(mask.view(torch.uint8))  # the same memory, in a type that all backends know
        sparse.apply_masks(self._weights, self._masks, optimizer)


class _NoStep:
    """Takes the optimizer's place in a model's ``train_step``: computes gradients, in full precision, and no step."""

    def optim_context(self, model: nn.Module) -> AbstractContextManager:
        return nullcontext()

    def update_params(self, loss: Tensor) -> None:
        loss.backward()


def _gradient(weight: nn.Parameter) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad


@torch.no_grad()
def _gradients(runner: Runner, data_batch: dict, weights: list[nn.Parameter]) -> list[Tensor]:
    """Returns the gradients of a batch, the mean over all processes, and leaves the model as it was."""
    buffers = [(buffer, buffer.clone()) for buffer in runner.model.buffers()]
    runner.optim_wrapper.zero_grad()
    with torch.enable_grad():
        runner.model.train_step(copy.deepcopy(data_batch), optim_wrapper=_NoStep())
    gradients = [_gradient(weight) for weight in weights]
    runner.optim_wrapper.zero_grad()
    for buffer, before in buffers:
        buffer.copy_(before)
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise InputError('SparseTrainingHook measures layers by the gradients of the first batch, which are not all '
                         'finite')
    return gradients
