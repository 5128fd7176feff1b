"""What can be known to fail before a minute is spent: missing data, weights that cannot be had, misspelt arguments."""

import inspect
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

import torch
from mmengine.config import Config

from ..errors import InputError
from ..models import RepLKNet
from .schedule import check_schedule

URL_TIMEOUT_SECONDS = 10


def check_before_training(cfg: Config) -> None:
    """Checks the data, the weights, the backbone's arguments and the schedule that training with ``cfg`` needs.

    Raises:
        InputError: One sentence on what is missing and how to get it.
    """
    _check_backbone(cfg)
    check_schedule(cfg)
    _check_data(cfg, 'train_dataloader', 'val_dataloader')
    for node in _dicts(cfg.model):
        if node.get('type') == 'Pretrained' and node.get('checkpoint'):
            _check_weights(node['checkpoint'])
    if cfg.get('load_from'):
        _check_checkpoint(cfg.load_from)


def check_before_testing(cfg: Config) -> None:
    """Checks the data, the checkpoint and the backbone's arguments that testing with ``cfg`` needs.

    Raises:
        InputError: One sentence on what is missing and how to get it.
    """
    _check_backbone(cfg)
    _check_checkpoint(cfg.load_from)
    _check_data(cfg, 'test_dataloader')


def _check_backbone(cfg: Config) -> None:
    known = set(inspect.signature(RepLKNet).parameters)
    for node in _dicts(cfg.model):
        if node.get('type') == 'RepLKNet':
            unknown = sorted(set(node) - known - {'type', '_scope_'})
            if unknown:
                raise InputError(f'RepLKNet has no argument {", ".join(map(repr, unknown))}; it takes '
                                 f'{", ".join(sorted(known))}')


def _check_data(cfg: Config, *dataloaders: str) -> None:
    for name in dataloaders:
        for dataset in _leaf_datasets((cfg.get(name) or {}).get('dataset', {})):
            root = dataset.get('data_root') or ''
            wanted = [dataset.get('ann_file') or '', *(dataset.get('data_prefix') or {}).values()]
            for path in (os.path.join(root, part) for part in wanted if part):
                if not os.path.exists(path):
                    hint = cfg.get('data_hint', 'Put it there, or say with --cfg-options '
                                   f'{name}.dataset.data_root=... where it is.')
                    raise InputError(f'the data of {dataset.get("type")} for {name} is missing: {path!r} does not '
                                     f'exist. {hint}')
                if os.path.isdir(path) and next(os.scandir(path), None) is None:
                    raise InputError(f'the data of {dataset.get("type")} for {name} is missing: {path!r} is empty')


def _check_weights(source: str) -> None:
    url = urlparse(source)
    if url.scheme not in ('http', 'https'):
        _check_checkpoint(source)
        return
    cached = Path(torch.hub.get_dir(), 'checkpoints', Path(url.path).name)
    if cached.is_file():
        return
    try:
        urllib.request.urlopen(urllib.request.Request(source, method='HEAD'), timeout=URL_TIMEOUT_SECONDS).close()
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, 'reason', error)
        raise InputError(f'the pre-trained weights {source} cannot be downloaded ({reason}). Put the file at {cached}, '
                         'or name a local one with --cfg-options model.backbone.init_cfg.checkpoint=FILE, or train '
                         'from scratch with --cfg-options model.backbone.init_cfg=None') from error


def _check_checkpoint(path: str) -> None:
    is_local = not urlparse(path).scheme
    if is_local and not os.path.isfile(path):
        raise InputError(f'checkpoint {path!r} does not exist')


def _leaf_datasets(dataset: dict) -> Iterator[dict]:
    """Yields the datasets inside wrappers such as ``RepeatDataset`` and ``ConcatDataset``."""
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else [])
    if not inner and dataset:
        yield dataset
    for child in inner:
        yield from _leaf_datasets(child)


def _dicts(node: object) -> Iterator[dict]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _dicts(child)
