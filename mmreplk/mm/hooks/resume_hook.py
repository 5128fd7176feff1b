"""What a resumed run takes from its checkpoint, and a check that this is what its config says."""

import inspect
import math
from collections.abc import Iterator, Sequence

import torch
from mmengine.dist import all_gather
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...errors import InputError
from ..internals import checkpoint_of, is_resuming

_PROGRESS = {'self', 'optimizer', 'last_step', 'verbose'}  # arguments of schedulers that do not shape the schedule


@HOOKS.register_module()
class ResumeHook(Hook):
    """Stops a resumed run that would silently differ from its config, and keeps MMEngine from executing a saved one.

    A resumed run is the run of its checkpoint: the optimizer's options and the schedules go on as they are saved there,
    and MMEngine ignores what the config says of them. Where the two differ, nothing is trained. Everything else, the
    data, the losses, the hooks, the intervals and the number of iterations, is as the config says.

    :func:`mmreplk.mm.runner.build_runner` gives this hook to every run; programs that build their runner themselves
    must add it to ``custom_hooks``.
    """

    # Before all other hooks.
    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Removes the config's text, which MMEngine would execute, and compares optimizer and schedules.

        Raises:
            InputError: With what the checkpoint and the config say, where they differ.
        """
        meta = checkpoint.get('meta')
        if isinstance(meta, dict):
            meta.pop('config', None)  # MMEngine would only read an outdated number of GPUs from it
        if not is_resuming(runner):
            return
        differences = [*_differences(runner, checkpoint)]
        if differences:
            source = checkpoint_of(runner)
            raise InputError(
                f'the run of checkpoint {source!r} cannot go on differently from how it began: '
                f'{"; ".join(differences[:4])}. A resumed run keeps the optimizer and the schedules of its checkpoint. '
                'Say the same in the config, or begin a new run with the weights by --cfg-options '
                f'load_from={source} without --resume')
        runner.logger.info('ResumeHook: the optimizer, its learning rates and their schedules go on as they are in the '
                           'checkpoint, with which the config agrees; the rest is as the config says.')

    def before_train(self, runner: Runner) -> None:
        """Checks that all processes go on at the same iteration, and that the learning rate is not 0 from there on.

        Raises:
            InputError: If either is not so.
        """
        places = [int(place) for place in all_gather(torch.tensor(runner.iter))]
        if len({*places}) > 1:
            raise InputError(f'the processes do not go on from the same checkpoint: they are at iterations {places}. '
                             'Name one that all of them can read by --resume FILE')
        if not runner.iter:
            return
        loop = runner.train_loop
        if runner.iter >= loop.max_iters:
            runner.logger.warning(f'ResumeHook: the checkpoint is of iteration {runner.iter}, and train_cfg ends at '
                                  f'{loop.max_iters}: there is nothing left to train.')
            return
        for name, wrapper, schedulers in _optimizers(runner):
            ends = [f'{"epoch" if scheduler.by_epoch else "iteration"} {scheduler.end}'
                    for scheduler in schedulers if scheduler.param_name == 'lr'
                    and scheduler.end <= (runner.epoch if scheduler.by_epoch else runner.iter)]
            is_over = ends and len(ends) == sum(scheduler.param_name == 'lr' for scheduler in schedulers)
            if is_over and not any(float(group['lr']) for group in wrapper.param_groups):
                raise InputError(f'the learning rates{name} are 0 for good since {ends[-1]}, where param_scheduler '
                                 f'ends, and train_cfg goes on from iteration {runner.iter} to {loop.max_iters}. Begin '
                                 'a new run with the weights: load_from without --resume')


def _optimizers(runner: Runner) -> Iterator[tuple[str, object, list]]:
    """Yields for each optimizer a clause that names it (``''`` if it is the only one), its wrapper, its schedulers."""
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers or []
    if not isinstance(wrapper, OptimWrapperDict):
        yield '', wrapper, schedulers if isinstance(schedulers, list) else []
        return
    for name, one in wrapper.items():
        yield f' of {name}', one, schedulers.get(name, []) if isinstance(schedulers, dict) else schedulers


def _differences(runner: Runner, checkpoint: dict) -> Iterator[str]:
    """Yields a clause for each choice in which the run, as its config has built it, differs from the checkpoint."""
    for name, wrapper, schedulers in _optimizers(runner):
        saved, states = checkpoint.get('optimizer') or {}, checkpoint.get('param_schedulers') or []
        if name:
            key = name.removeprefix(' of ')
            saved, states = saved.get(key, {}), states.get(key, []) if isinstance(states, dict) else states
        yield from _of_groups(f'the optimizer{name}', wrapper.optimizer.param_groups, saved.get('param_groups') or [])
        if len(states) != len(schedulers):
            yield (f'param_scheduler{name} has {len(states)} entries in the checkpoint and {len(schedulers)} in the '
                   'config')
            continue
        for i, (scheduler, state) in enumerate(zip(schedulers, states, strict=True)):
            yield from _of_schedule(f'param_scheduler.{i}{name}', scheduler, state)


def _of_groups(what: str, groups: Sequence[dict], saved: Sequence[dict]) -> Iterator[str]:
    if len(groups) != len(saved):
        yield f'{what} has {len(saved)} groups of parameters in the checkpoint and {len(groups)} in the config'
        return
    for group, before in zip(groups, saved, strict=True):
        scheduled = {key.removeprefix('initial_') for key in {*group, *before} if key.startswith('initial_')}
        kept = {*group} & {*before} - {'params'} - scheduled
        missing = {*group} - {*before} - scheduled, {*before} - {*group} - scheduled
        if all(missing):  # one alone may come of another version of PyTorch
            yield f'{what} has {sorted(missing[1])[0]} in the checkpoint and {sorted(missing[0])[0]} in the config'
            return
        found = [f'{what} has {key.removeprefix("initial_")}={before[key]!r} in the checkpoint and {group[key]!r} in '
                 'the config' for key in sorted(kept) if not _same(group[key], before[key])]
        if found:
            yield from found
            return  # the other groups differ in the same way


def _of_schedule(what: str, scheduler: object, state: dict) -> Iterator[str]:
    what = f'{what} ({type(scheduler).__name__})'
    own = scheduler.state_dict()
    arguments = {name for kind in type(scheduler).__mro__ for name in inspect.signature(kind.__init__).parameters}
    for name in sorted(arguments & {*own} - _PROGRESS):
        if name not in state:
            yield f'{what} has no {name} in the checkpoint and {own[name]!r} in the config'
        elif not _same(own[name], state[name]):
            yield f'{what} has {name}={state[name]!r} in the checkpoint and {own[name]!r} in the config'


def _same(one: object, other: object) -> bool:
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if all(isinstance(value, torch.Tensor) or type(value) in (int, float) for value in (one, other)):
        return math.isclose(float(one), float(other), rel_tol=1e-9)
    return one == other
