"""What MMEngine has no public name for: every private part of it that this package touches, one function each."""

from mmengine.runner import Runner


def is_resuming(runner: Runner) -> bool:
    """Says whether ``runner`` goes on from its checkpoint, with the optimizer and the schedules, or takes weights."""
    return bool(runner._resume)
