"""Every private part of MMEngine that this package touches, one function each.

Configs say most of it too, but not where a program hands :class:`mmengine.runner.Runner` its arguments one by one.
"""

from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch.utils.data import DataLoader


def is_training(runner: Runner) -> bool:
    """Says whether ``runner`` has begun to train, without building the loop as its public property would."""
    return isinstance(runner._train_loop, BaseLoop)


def is_resuming(runner: Runner) -> bool:
    """Says whether ``runner`` goes on from its checkpoint, with optimizer and schedules, or takes weights alone."""
    return bool(runner._resume)


def checkpoint_of(runner: Runner) -> str | None:
    """Returns where ``runner`` takes its weights from; None if it looks for them in its work dir, or takes none."""
    return runner._load_from


def has_own_seeds(runner: Runner) -> bool:
    """Says whether each process of ``runner`` has another seed."""
    return bool(runner._randomness_cfg.get('diff_rank_seed'))


def accumulative_counts(wrapper: OptimWrapper) -> int:
    """Returns over how many iterations gradients are added up before a step."""
    return getattr(wrapper, '_accumulative_counts', 1)


def replace_data(loop: BaseLoop, loader: DataLoader, batches: object = None) -> None:
    """Lets ``loop``, before its first iteration, draw from ``loader``.

    Args:
        loop: Any loop of MMEngine.
        loader: What it is to load from.
        batches: What a loop by iterations draws from instead, an iterator with MMEngine's ``skip_iter``.
    """
    loop.dataloader = loader
    if hasattr(loop, 'dataloader_iterator'):
        loop.dataloader_iterator = type(loop.dataloader_iterator)(loader) if batches is None else batches
