"""Runs that would never end, never save, or never change their learning rate."""

from collections.abc import Iterator

from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS, init_default_scope

from ...errors import InputError
from ..kinds import kind_of, listed_parts

_ENDLESS = {'InfiniteSampler', 'InfiniteGroupBatchSampler', 'InfiniteBatchSampler', 'MultiSourceSampler',
            'GroupMultiSourceSampler'}


def counts_epochs(loop: object) -> bool | None:
    """Says whether a ``train_cfg`` counts epochs; None if that is not known."""
    if not isinstance(loop, dict) or ('max_epochs' in loop) == ('max_iters' in loop):
        return None
    return 'max_epochs' in loop


def check_schedule(cfg: Config) -> None:
    """Checks that epochs have an end, and that a schedule counts what the run counts.

    Raises:
        InputError: If a sampler that never ends would make an epoch or an evaluation last for ever, or a schedule
            counts epochs in a run by iterations, where it would never take a step.
    """
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    by_epoch = counts_epochs(cfg.get('train_cfg'))
    loaders = [*(['train_dataloader'] if by_epoch else []), 'val_dataloader', 'test_dataloader']
    for name in loaders:
        for key in ('sampler', 'batch_sampler'):
            sampler = (cfg.get(name) or {}).get(key)
            if _is_endless(sampler):
                what = 'the first epoch' if name == 'train_dataloader' else 'an evaluation'
                raise InputError(f"{name}.{key} {kind_of(sampler)!r} never ends, so {what} would not end either: set "
                                 f"{name}.sampler=dict(type='DefaultSampler', shuffle={name == 'train_dataloader'})"
                                 + (", or train by iterations, train_cfg=dict(type='IterBasedTrainLoop', "
                                    'max_iters=...)' if name == 'train_dataloader' else ''))
    for i, scheduler in enumerate(listed_parts(cfg.get('param_scheduler')) if by_epoch is False else ()):
        if isinstance(scheduler, dict) and scheduler.get('by_epoch', True) and \
                not scheduler.get('convert_to_iter_based') and kind_of(scheduler).startswith(_CHANGING):
            raise InputError(f'param_scheduler.{i}, {kind_of(scheduler)}, counts epochs (by_epoch is True unless it is '
                             'set), and train_cfg counts iterations: it would never take a step. Set by_epoch=False, '
                             'and its begin and end in iterations')


# Those of MMEngine's schedulers that change anything over a run; those of other packages may count as they like.
_CHANGING = ('Poly', 'Cosine', 'MultiStep', 'Step', 'Exponential', 'Linear', 'OneCycle')


def unsaved(cfg: Config, iterations: int | None = None) -> Iterator[str]:
    """Yields sentences on checkpoints that never come due before the end of the run.

    Args:
        cfg: The config.
        iterations: How many the run has, if that is known of one by epochs.
    """
    loop, hook = cfg.get('train_cfg') or {}, (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    by_epoch = counts_epochs(loop)
    interval, saves_by_epoch = hook.get('interval', -1), hook.get('by_epoch', True)
    if by_epoch is None or not isinstance(interval, int) or interval < 1:
        return
    if not by_epoch and saves_by_epoch:
        yield ('default_hooks.checkpoint counts epochs (by_epoch is True unless it is set), and train_cfg counts '
               'iterations: nothing is saved before the end of the run. Set by_epoch=False')
        return
    end = iterations if by_epoch and not saves_by_epoch else loop['max_epochs' if by_epoch else 'max_iters']
    if end is not None and interval > end:
        yield (f'default_hooks.checkpoint.interval is {interval}, and the run ends after {end} '
               f'{"epochs" if saves_by_epoch else "iterations"}: nothing is saved before its end')


def overlong(cfg: Config, iterations: int) -> Iterator[str]:
    """Yields a sentence if the schedule of a run by epochs, counted in iterations, ends long after the run.

    Args:
        cfg: The config of a run by epochs.
        iterations: How many it has.
    """
    ends = [scheduler.get('end') for scheduler in listed_parts(cfg.get('param_scheduler'))
            if isinstance(scheduler, dict) and not scheduler.get('by_epoch', True)]
    latest = max((end for end in ends if isinstance(end, int)), default=0)
    if latest > iterations:
        yield (f'the run has {iterations} iterations, and param_scheduler goes on to iteration {latest}: the learning '
               'rate will not reach its end')


def _is_endless(sampler: object) -> bool:
    kind = sampler.get('type') if isinstance(sampler, dict) else None
    kind = DATA_SAMPLERS.get(kind) if isinstance(kind, str) else kind
    return not _ENDLESS.isdisjoint(parent.__name__ for parent in getattr(kind, '__mro__', ()))
