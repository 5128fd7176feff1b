"""Evaluation on merged kernels, training on the branches."""

import functools
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from mmengine.dist import broadcast, get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner, TestLoop, ValLoop
from torch import Tensor, nn

from ...errors import InputError
from ...merging import reparameterized
from ...packing import inference_dtype
from ..internals import built_loops


@HOOKS.register_module()
class ReparamHook(Hook):
    """Validates and tests the merged form of the model and hands training back the model itself, untouched.

    The merged form stands beside the model (see :func:`mmreplk.reparameterized`), so parameters, buffers, optimizer
    state and ``state_dict()`` are the same bits before, during and after an evaluation. The random number generators
    are put back too: a run that validates has exactly the loss curve of one that does not. Works with ``EMAHook``,
    whose averaged weights are the ones merged, and under DistributedDataParallel, where all processes evaluate with the
    running statistics of the first, which are the ones that are saved, and train on with their own. Harmless where
    there is nothing to merge. On x86 CPUs the merged form is also packed, which computes the same faster (see
    :mod:`mmreplk.layers.packed`), except in loops with ``fp16=True``, where autocast rules.

    Args:
        fuse_bn: Also fold the BatchNorms of large-kernel networks and of MMCV's ``ConvModule`` in heads and necks.
        check: Compare the merged form with the model on the first batch of every evaluation, and stop with the
            figure if they differ.
        dtype: ``'bfloat16'`` to evaluate large-kernel networks, MMCV's ``ConvModule`` and ``UPerHead`` in it, with
            ``fuse_bn``; ``'float32'`` for the dtype of their parameters.

    Raises:
        InputError: If ``dtype`` is another one, or bfloat16 without ``fuse_bn``.
    """

    # After EMAHook (NORMAL) has swapped the averaged weights in, before CheckpointHook (VERY_LOW).
    priority = 'LOW'

    def __init__(self, fuse_bn: bool = True, check: bool = False, dtype: str = 'float32') -> None:
        self.fuse_bn = fuse_bn
        self.check = check
        self.dtype = inference_dtype(dtype)
        if self.dtype is not None and not fuse_bn:
            raise InputError(f'dtype={dtype!r} needs fuse_bn=True, got {fuse_bn}')
        self._evaluation = ExitStack()
        self._own_buffers = _OwnBuffers()
        self._has_reported = False

    def before_run(self, runner: Runner) -> None:
        """Makes the loops clean up even if an evaluation raises, for which MMEngine has no hook point.

        A program that catches the error, or Ctrl-C, can then go on with the model.
        """
        if not any(hook is self._own_buffers for hook in runner.hooks):
            runner.register_hook(self._own_buffers)
        for loop in built_loops(runner):
            if isinstance(loop, (ValLoop, TestLoop)) and not hasattr(loop.run, '__wrapped__'):
                loop.run = self._closing(loop.run)

    def _closing(self, run: Callable) -> Callable:

        @functools.wraps(run)
        def closing_run(*args, **kwargs):
            with self._evaluation:
                return run(*args, **kwargs)

        return closing_run

    def before_val_epoch(self, runner: Runner) -> None:
        """Puts the merged form in the place of the model."""
        self._replace(runner, runner.val_loop)

    def before_test_epoch(self, runner: Runner) -> None:
        """Puts the merged form in the place of the model."""
        self._replace(runner, runner.test_loop)

    def _replace(self, runner: Runner, loop: ValLoop | TestLoop) -> None:
        self._evaluation.close()
        self._own_buffers.replace(runner.model)
        self._evaluation.callback(self._own_buffers.restore)
        self._evaluation.enter_context(_preserved_randomness())
        packs = self.fuse_bn and not getattr(loop, 'fp16', False)
        merged = self._evaluation.enter_context(
            reparameterized(runner.model, self.fuse_bn, self.check, packs, self.dtype))
        if not self._has_reported:
            self._has_reported = True
            runner.logger.info(f'ReparamHook: evaluating with {merged.large_kernels} large-kernel layers merged and '
                               f'{merged.batch_norms} BatchNorms folded.')

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Puts the model back in its place."""
        self._evaluation.close()

    after_test_epoch = after_val_epoch


class _OwnBuffers(Hook):
    """Makes all processes evaluate with the buffers of the first (without SyncBN they differ); restores their own."""

    # Before EMAHook (NORMAL) swaps buffers too.
    priority = 'HIGH'

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor]] = []

    def replace(self, model: nn.Module) -> None:
        """Overwrites the buffers of all processes but the first."""
        if get_dist_info()[1] == 1:
            return
        for buffer in model.buffers():
            self._kept.append((buffer, buffer.clone()))
            broadcast(buffer)

    def restore(self) -> None:
        """Puts the buffers back, if they have not been."""
        for buffer, own in self._kept:
            buffer.copy_(own)
        self._kept.clear()

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Puts the buffers back."""
        self.restore()

    after_test_epoch = after_val_epoch


@contextmanager
def _preserved_randomness() -> Iterator[None]:
    """Puts Python's, NumPy's and PyTorch's global generators back as they were on entry."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
