"""Keeps losses and gradients that are infinite or NaN from updating any weight."""

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ...errors import InputError
from ..wrappers import unwrapped


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Stops training, or leaves a step out, where the loss or a gradient is infinite or NaN.

    It looks before the backward pass and before the optimizer's step, so neither the weights nor any checkpoint ever
    hold what came of such a batch, and names the batch's files in ``non_finite.jsonl`` in the work dir and in its
    message. Gradients that a loss scaler handles are left to it. Each step costs a search for the largest gradient, for
    which the host waits for the device.

    Args:
        action: ``'stop'`` to end the training; ``'skip'`` to leave the step out, set the running statistics of the
            norms back to where they were after the last step, in all processes, and go on.
        max_skips: How many steps in a row may be left out.

    Raises:
        InputError: If an argument is wrong; in training, if it must stop because of what is not finite.
    """

    def __init__(self, action: str = 'stop', max_skips: int = 10) -> None:
        if action not in ('stop', 'skip'):
            raise InputError(f"action of NonFiniteHook must be 'stop' or 'skip', got {action!r}")
        if not isinstance(max_skips, int) or max_skips < 1:
            raise InputError(f'max_skips of NonFiniteHook must be a positive integer, got {max_skips!r}')
        self.action, self.max_skips = action, max_skips
        self._skips, self._is_poisoned, self._inputs, self._buffers = 0, False, {}, None

    def before_train(self, runner: Runner) -> None:
        """Puts its checks between the model and the optimizer, where MMEngine has no hook point."""
        wrapper, self._runner = runner.optim_wrapper, runner
        if isinstance(wrapper, OptimWrapperDict):
            raise InputError('NonFiniteHook watches one optimizer; remove it from custom_hooks where there are several')
        if wrapper.update_params == self._checked_update_params:  # since an earlier call of train()
            return
        self._model = unwrapped(runner.model)
        self._model.register_forward_pre_hook(self._keep_inputs, with_kwargs=True)
        self._update_params, wrapper.update_params = wrapper.update_params, self._checked_update_params
        self._step, wrapper.step = wrapper.step, self._checked_step

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Keeps the running statistics of the norms, which the forward passes before a step change."""
        if self.action == 'skip' and self._buffers is None:
            self._buffers = [buffer.clone() for buffer in self._model.buffers()]

    def _keep_inputs(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        if model.training:
            self._inputs = kwargs

    def _checked_update_params(self, loss: Tensor, *args, **kwargs) -> None:
        if not isinstance(loss, Tensor):
            raise InputError(f'the model computes no loss (loss_decode, loss_cls or the like): their sum is {loss!r}')
        if loss.isfinite().all():
            self._update_params(loss, *args, **kwargs)
            return
        what = f'the loss is {loss.item()}'
        if self._must_stop():
            self._report(what, self._first_layer())
        self._is_poisoned = True
        # An infinite loss can have finite gradients; NaN ones reach all processes, so that all leave the step out.
        self._update_params(loss * math.nan, *args, **kwargs)
        # Not before the backward pass, which needs the statistics as the forward pass left them.
        self._report(what, self._first_layer(), was_left_out=True)

    def _checked_step(self, **kwargs) -> None:
        scaler = getattr(self._runner.optim_wrapper, 'loss_scaler', None)
        leaves_out = scaler is not None and scaler.is_enabled()
        culprit = None if leaves_out else self._first_parameter()
        if culprit is not None and not self._is_poisoned:
            self._report(f'the gradient of {culprit} is not finite', was_left_out=not self._must_stop())
        is_left_out = culprit is not None or self._is_poisoned
        self._skips = self._skips + 1 if is_left_out else 0
        if is_left_out and self._buffers is not None:
            self._put_back(self._buffers)
        self._is_poisoned, self._buffers = False, None
        if culprit is None:
            self._step(**kwargs)

    def _put_back(self, buffers: list[Tensor]) -> None:
        for buffer, kept in zip(self._model.buffers(), buffers, strict=True):
            buffer.copy_(kept)

    def _must_stop(self) -> bool:
        return self.action == 'stop' or self._skips >= self.max_skips

    def _first_parameter(self) -> str | None:
        """Returns the name of the first parameter whose gradient is not finite."""
        named = [(name, p.grad) for name, p in self._model.named_parameters() if p.grad is not None]
        if not named:
            return None
        # The largest of finite gradients is finite; the sum of their squares may not be.
        if torch.nn.utils.get_total_norm([grad for _, grad in named], math.inf).isfinite():
            return None
        return next(name for name, grad in named if not grad.isfinite().all())

    def _first_layer(self) -> str:
        """Returns a sentence that names the first layer at fault, or ``''`` if one process alone cannot find it."""
        inputs = self._inputs.get('inputs')
        if isinstance(inputs, Tensor) and not inputs.isfinite().all():
            return 'The images themselves are not finite.'
        if self._runner.world_size > 1:
            return ''

        def run() -> None:
            with self._runner.optim_wrapper.optim_context(self._model):
                self._model(**self._inputs)

        before = [buffer.clone() for buffer in self._model.buffers()]
        found = first_non_finite(self._model, run)
        self._put_back(before)
        if found is None:
            return ''
        where = f'The first numbers that are not finite come out of {found[0]} in {str(found[1])[6:]}'
        if found[1] == torch.float16:
            return f'{where}, which holds no number above 65504: bfloat16 does (optim_wrapper.dtype=bfloat16).'
        return f'{where}.'

    def _report(self, what: str, where: str = '', was_left_out: bool = False) -> None:
        """Writes down what happened; InputError unless the step was left out."""
        runner, samples = self._runner, self._inputs.get('data_samples') or []
        files = [str(getattr(sample, 'img_path', 'unknown')) for sample in samples]
        path = Path(runner.work_dir, 'non_finite.jsonl')
        record = dict(iteration=runner.iter + 1, process=runner.rank, what=what, where=where, files=files)
        with open(path, 'a') as file:
            file.write(json.dumps(record) + '\n')
        batch = f'The batch, noted in {path}: {", ".join(files)}.'
        happened = ' '.join(filter(None, [f'{what} in iteration {runner.iter + 1}.', where, batch]))
        if was_left_out:
            runner.logger.error(f'NonFiniteHook: {happened} The step is left out.')
            return
        last = runner.message_hub.get_info('last_ckpt')
        goes_on = f'{last} is the last checkpoint.' if last else 'No checkpoint had been saved.'
        skipped = f' after {self._skips} steps in a row that were left out' if self._skips else ''
        raise InputError(f'training stops{skipped} with the weights as they were: {happened} {goes_on} Look at these '
                         'files, lower the learning rate, or go on without such batches by '
                         "NonFiniteHook(action='skip').")


def first_non_finite(model: nn.Module, run: Callable[[], object]) -> tuple[str, torch.dtype] | None:
    """Finds the first layer whose output holds infinity or NaN.

    Args:
        model: Whose layers, the modules without children, are watched.
        run: Runs ``model`` once; no gradients are recorded.

    Returns:
        The layer's name and the dtype of its output; None if all outputs are finite.
    """
    found = []

    def check(name: str, module: nn.Module, inputs: tuple, output: object) -> None:
        if not found and isinstance(output, Tensor) and not output.isfinite().all():
            found.append((name, output.dtype))

    layers = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    handles = [module.register_forward_hook(functools.partial(check, name)) for name, module in layers]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
