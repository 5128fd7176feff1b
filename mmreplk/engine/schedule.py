"""Numbers of a config that MMEngine would take silently, or stumble over after the first hours."""

import math
from collections.abc import Callable

from mmengine.config import Config

from ..errors import InputError


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_measure(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0


_POSITIVE = 'a positive integer', lambda value: _is_count(value, 1)
_COUNT = 'an integer of at least 0', lambda value: _is_count(value, 0)
_MEASURE = 'a finite number of at least 0', _is_measure
RULES: dict[str, tuple[str, Callable[[object], bool]]] = {
    'train_cfg.max_iters': _POSITIVE,
    'train_cfg.max_epochs': _POSITIVE,
    'train_cfg.val_interval': _POSITIVE,
    'train_dataloader.batch_size': _POSITIVE,
    'train_dataloader.num_workers': _COUNT,
    'val_dataloader.batch_size': _POSITIVE,
    'val_dataloader.num_workers': _COUNT,
    'optim_wrapper.accumulative_counts': _POSITIVE,
    'optim_wrapper.optimizer.lr': _MEASURE,
    'optim_wrapper.optimizer.weight_decay': _MEASURE,
    'default_hooks.logger.interval': _POSITIVE,
}


def check_schedule(cfg: Config) -> None:
    """Checks counts, intervals and rates, and that a resumed run does not lose accumulated gradients.

    Raises:
        InputError: With the key, its value and what it must be.
    """
    for key, (wanted, is_right) in RULES.items():
        parent, _, name = key.rpartition('.')
        node = _get(cfg, parent)
        if isinstance(node, dict) and name in node and not is_right(node[name]):
            raise InputError(f'{key} must be {wanted}, got {node[name]!r}')
    counts = _get(cfg, 'optim_wrapper.accumulative_counts') or 1
    interval = _get(cfg, 'default_hooks.checkpoint.interval')
    if 'max_iters' in (cfg.get('train_cfg') or {}) and _is_count(interval, 1) and interval % counts:
        raise InputError(f'default_hooks.checkpoint.interval must be a multiple of optim_wrapper.accumulative_counts, '
                         f'{counts}, or a resumed run lacks the gradients that had been accumulated; got {interval}')


def _get(cfg: Config, key: str) -> object:
    node = cfg
    for name in key.split('.'):
        node = node.get(name) if isinstance(node, (dict, Config)) else None
    return node
