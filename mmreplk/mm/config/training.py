"""The options of ``tools/train.py``."""

import torch
from mmengine.config import Config

from ...errors import InputError
from ..checkpoints import find_resumable
from ..kinds import kind_of
from ..processes import decided_by_first, join_processes


def prepare_training(cfg: Config, amp: bool = False, auto_scale_lr: bool = False, resume: str | None = None) -> None:
    """Makes ``cfg`` train as the command line says.

    Args:
        cfg: The config, changed in place.
        amp: Automatic mixed precision.
        auto_scale_lr: Scale the learning rate by the batch size, relative to the config's
            ``auto_scale_lr.base_batch_size``.
        resume: The checkpoint to go on from; ``'auto'`` for the last whole one in the work dir or, if there is none,
            for the weights that the config's ``load_from`` names; None for what the config says.

    Raises:
        InputError: If the config rules an option out, or there are checkpoints to resume from but none is whole.
    """
    if amp:
        wrapper = kind_of(cfg.optim_wrapper) or 'OptimWrapper'
        if wrapper not in ('OptimWrapper', 'AmpOptimWrapper', 'CPUAmpOptimWrapper'):
            raise InputError(f"--amp needs the optimizer wrapper 'OptimWrapper', the config has {wrapper!r}")
        cfg.optim_wrapper.type = 'AmpOptimWrapper' if torch.cuda.is_available() else 'CPUAmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise InputError('--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config')
        cfg.auto_scale_lr.enable = True
    if resume is not None:
        cfg.resume = True
    if resume not in (None, 'auto'):
        cfg.load_from = resume
    if cfg.get('resume') and (resume == 'auto' or not cfg.get('load_from')):
        join_processes(cfg)
        hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
        last = decided_by_first(lambda: find_resumable(cfg.work_dir, hook.get('out_dir')))
        cfg.resume = last is not None
        cfg.load_from = last or cfg.get('load_from')
