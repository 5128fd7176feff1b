"""Values of a config that MMEngine would accept silently, or fail on after hours."""

import logging
import math
from collections.abc import Callable, Iterator

from mmengine.config import Config

from ...errors import InputError


def is_count(value: object, least: int, most: int = 10**9) -> bool:
    """Says whether ``value`` is an integer from ``least`` to ``most``; True and False do not count."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_measure(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0


def _is(*types: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, types)


def _is_size(value: object) -> bool:
    return value is None or _are(value, lambda side: is_count(side, 1))


def _are(pair: object, is_right: Callable[[object], bool]) -> bool:
    return isinstance(pair, (list, tuple)) and len(pair) == 2 and all(map(is_right, pair))


_POSITIVE = 'a positive integer', lambda value: is_count(value, 1)
_WORKERS = 'an integer from 0 to 1000', lambda value: is_count(value, 0, 1000)
_INTERVAL = 'a positive integer, or -1 for never', lambda value: is_count(value, -1) and value != 0
_MEASURE = 'a finite number of at least 0', _is_measure
_DICT = 'a dict', _is(dict)
_MAYBE_DICT = 'a dict or None', _is(dict, type(None))
_NAME = 'a string', _is(str)
_MAYBE_NAME = 'a string or None', _is(str, type(None))
_FLAG = 'True or False', _is(bool)
_SIZE = 'a pair of positive integers or None', _is_size
_RATIOS = 'a pair of positive numbers', lambda value: _are(value, lambda ratio: _is_measure(ratio) and ratio > 0)
_NUMBER = 'a number', lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)
_LOSSES = 'a loss or several', lambda value: isinstance(value, (dict, list, tuple)) and len(value) > 0
_LEVEL = 'a name such as INFO', lambda value: isinstance(value, str) and isinstance(logging.getLevelName(value), int)
RULES: dict[str, tuple[str, Callable[[object], bool]]] = {
    'model': _DICT,
    'model.backbone': _DICT,
    'model.data_preprocessor.size': _SIZE,
    'default_scope': _MAYBE_NAME,
    'load_from': _MAYBE_NAME,
    'resume': _FLAG,
    'log_level': _LEVEL,
    'train_cfg': _MAYBE_DICT,
    'train_cfg.max_iters': _POSITIVE,
    'train_cfg.max_epochs': _POSITIVE,
    'train_cfg.val_interval': _POSITIVE,
    'val_cfg': _MAYBE_DICT,
    'test_cfg': _MAYBE_DICT,
    'optim_wrapper': _MAYBE_DICT,
    'optim_wrapper.accumulative_counts': _POSITIVE,
    'optim_wrapper.optimizer.lr': _MEASURE,
    'optim_wrapper.optimizer.weight_decay': _MEASURE,
    'default_hooks.logger.interval': _POSITIVE,
    'default_hooks.checkpoint.interval': _INTERVAL,
    'default_hooks.checkpoint.max_keep_ckpts': _INTERVAL,
    'log_processor.window_size': _POSITIVE,
    **{f'{name}_dataloader{key}': rule for name in ('train', 'val', 'test') for key, rule in {
        '': _MAYBE_DICT, '.dataset': _DICT, '.batch_size': _POSITIVE, '.num_workers': _WORKERS,
        '.dataset.data_root': _MAYBE_NAME, '.dataset.ann_file': _MAYBE_NAME, '.dataset.data_prefix': _MAYBE_DICT,
        '.dataset.metainfo': _MAYBE_DICT}.items()},
}
# The same for keys of one meaning wherever they are.
ANYWHERE: dict[str, tuple[str, Callable[[object], bool]]] = {
    'ratio_range': _RATIOS, 'power': _NUMBER, 'eta_min': _NUMBER, 'start_factor': _NUMBER, 'end_factor': _NUMBER,
    'gamma': _NUMBER, 'loss_decode': _LOSSES
}


def check_values(cfg: Config) -> None:
    """Checks types, counts, intervals and rates, and that a resumed run does not lose accumulated gradients.

    Raises:
        InputError: With the key, its value and what it must be.
    """
    for key, (wanted, is_right) in RULES.items():
        parent, _, name = key.rpartition('.')
        node = _get(cfg, parent)
        if isinstance(node, (dict, Config)) and name in node and not is_right(node[name]):
            raise InputError(f'{key} must be {wanted}, got {node[name]!r}')
    for key, value in nodes(dict(cfg.items())):
        name = key.rpartition('.')[2]
        if name in ANYWHERE and not ANYWHERE[name][1](value):
            raise InputError(f'{key} must be {ANYWHERE[name][0]}, got {value!r}')
        if key.endswith('.type') and not isinstance(value, str) and not callable(value):
            raise InputError(f'{key} must be the name of a class, got {value!r}')
        if isinstance(value, float) and math.isnan(value):
            raise InputError(f'{key} must not be nan')
    counts = _get(cfg, 'optim_wrapper.accumulative_counts') or 1
    interval = _get(cfg, 'default_hooks.checkpoint.interval')
    if 'max_iters' in (cfg.get('train_cfg') or {}) and is_count(interval, 1) and interval % counts:
        raise InputError(f'default_hooks.checkpoint.interval must be a multiple of optim_wrapper.accumulative_counts, '
                         f'{counts}, or a resumed run lacks the gradients that had been accumulated; got {interval}')


def nodes(node: object, path: str = '') -> Iterator[tuple[str, object]]:
    """Yields everything in a config, or in a part of it, with its dotted path."""
    if path:
        yield path, node
    if isinstance(node, (list, tuple)):
        node = dict(enumerate(node))
    for key, value in node.items() if isinstance(node, dict) else ():
        yield from nodes(value, f'{path}.{key}' if path else str(key))


def _get(cfg: Config, key: str) -> object:
    node = cfg
    for name in key.split('.') if key else ():
        node = node.get(name) if isinstance(node, (dict, Config)) else None
    return node
