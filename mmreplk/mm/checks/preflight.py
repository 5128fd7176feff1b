"""What can be known to fail before a minute is spent: missing data, weights that cannot be had, misspelt arguments."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlparse

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DATASETS, init_default_scope

from ...errors import InputError
from ...networks.fitting import fit_weights
from ...networks.sources import find_backbone
from ...weights import local_file, read_checkpoint
from ..backbones import build_empty, network_of
from ..trust import refuse_pickled_data
from .channels import check_channels
from .coco_file import left_out, missing_classes, read_coco
from .values import check_values, is_count

_WITHOUT = ('Or name another file with --cfg-options model.backbone.init_cfg.checkpoint=FILE, or train from scratch '
            'with --cfg-options model.backbone.init_cfg=None')


def check_before_training(cfg: Config, trusted: bool = False) -> None:
    """Checks the data, the weights, the backbone's arguments and the schedule that training with ``cfg`` needs.

    Weights that are to be downloaded are downloaded, to where MMEngine looks for them.

    Args:
        cfg: The config.
        trusted: Whether checkpoints may hold any pickle.

    Raises:
        InputError: One sentence on what is missing and how to get it.
    """
    refuse_pickled_data(cfg, trusted)
    _check_config(cfg, 'train_dataloader', 'val_dataloader')
    for node in _dicts(cfg.model):
        inits = node.get('init_cfg') or []
        for init in [inits] if not isinstance(inits, (list, tuple)) else inits:
            if not isinstance(init, dict):
                raise InputError(f'init_cfg must be a dict or a list of dicts, got {inits!r}')
            if init.get('type') == 'Pretrained':
                _check_weights(_here(init['checkpoint'], _WITHOUT), node, init.get('prefix'), trusted)
    if cfg.get('load_from'):
        _check_load_from(cfg, trusted)


def check_before_testing(cfg: Config, trusted: bool = False) -> None:
    """Checks the data, the checkpoint and the backbone's arguments that testing with ``cfg`` needs.

    Args:
        cfg: The config.
        trusted: Whether checkpoints may hold any pickle.

    Raises:
        InputError: One sentence on what is missing and how to get it.
    """
    refuse_pickled_data(cfg, trusted)
    _check_config(cfg, 'test_dataloader')
    _check_load_from(cfg, trusted)


def _check_config(cfg: Config, *dataloaders: str) -> None:
    check_values(cfg)
    _check_backbone(cfg)
    check_channels(cfg)
    check_data(cfg, *dataloaders)
    _check_annotations(cfg, *dataloaders)


def _check_backbone(cfg: Config) -> None:
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    for node in _dicts(cfg.model):
        if network_of(node) is not None:
            build_empty(node)


def check_data(cfg: Config, *dataloaders: str) -> None:
    """Raises InputError if a file or folder that one of these dataloaders names is missing, or such a folder empty."""
    for name in dataloaders:
        for dataset in _leaf_datasets((cfg.get(name) or {}).get('dataset', {})):
            root = dataset.get('data_root') or ''
            prefixes = dataset.get('data_prefix') or {}
            for key, part in prefixes.items():
                if not isinstance(part, (str, type(None))):
                    raise InputError(f'{name}.dataset.data_prefix.{key} must be a string or None, got {part!r}')
            wanted = [dataset.get('ann_file') or '', *prefixes.values()]
            for path in (os.path.join(root, part) for part in wanted if part):
                if not os.path.exists(path):
                    hint = cfg.get('data_hint', 'Put it there, or say with --cfg-options '
                                   f'{name}.dataset.data_root=... where it is.')
                    raise InputError(f'the data of {dataset.get("type")} for {name} is missing: {path!r} does not '
                                     f'exist. {hint}')
                if os.path.isdir(path) and next(os.scandir(path), None) is None:
                    raise InputError(f'the data of {dataset.get("type")} for {name} is missing: {path!r} is empty')


def _check_annotations(cfg: Config, *dataloaders: str) -> None:
    """Reads the annotation files of COCO datasets, in one process: what they hold is the same in all."""
    if os.environ.get('RANK', '0') != '0':
        return
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    for name in dataloaders:
        for dataset in _leaf_datasets((cfg.get(name) or {}).get('dataset', {})):
            if dataset.get('type') == 'CocoDataset' and dataset.get('ann_file'):
                path = os.path.join(dataset.get('data_root') or '', dataset.ann_file)
                classes = (dataset.get('metainfo') or {}).get('classes')
                classes = classes or DATASETS.get('CocoDataset').METAINFO['classes']
                if not isinstance(classes, (list, tuple)):
                    raise InputError(f'{name}.dataset.metainfo.classes must be a list of names, got {classes!r}')
                labels = read_coco(path)
                for sentence in missing_classes(labels, classes):
                    raise InputError(f'{path} cannot be used: {sentence}')
                for sentence in left_out(labels, classes):
                    print_log(f'{path}: {sentence}', logger='current', level=logging.WARNING)


def _check_load_from(cfg: Config, trusted: bool) -> None:
    model = cfg.model.get('module', cfg.model)  # test-time augmentation wraps the model
    saved = _check_weights(_here(cfg.load_from), model.get('backbone') or {}, None, trusted)
    if not cfg.get('resume') or saved is None:
        return
    meta, schedulers = saved.get('meta'), cfg.get('param_scheduler') or []
    lacking = None
    if not isinstance(meta, dict) or not is_count(meta.get('iter'), 0) or not is_count(meta.get('epoch', 0), 0):
        lacking = 'it does not say after which iteration it was saved'
    elif not isinstance(saved.get('optimizer'), dict) or not isinstance(saved.get('message_hub'), dict):
        lacking = "it lacks the optimizer's state or the log history, as the best checkpoints do"
    elif isinstance(schedulers, list) and len(saved.get('param_schedulers') or []) != len(schedulers):
        lacking = f'it does not hold the states of the {len(schedulers)} entries of param_scheduler'
    if lacking:
        raise InputError(f'checkpoint {cfg.load_from!r} cannot be resumed from: {lacking}. Name it with --cfg-options '
                         'load_from=... to start from its weights')


def _here(source: str, advice: str = '') -> Path | None:
    """Returns where the checkpoint of a name, an address or a path lies; None if it is for MMEngine to fetch."""
    if urlparse(source).scheme not in ('', 'http', 'https'):
        return None
    try:
        return local_file(source)
    except InputError as error:
        raise InputError(f'{error}. {advice}' if advice else str(error)) from error


def _check_weights(path: Path | None, module: dict, prefix: str | None, trusted: bool) -> dict | None:
    """Reads a checkpoint and fits it to ``module``, if that describes a large-kernel network; returns what it holds."""
    if path is None:
        return None
    saved = read_checkpoint(path, trusted, mmap=True)
    strange = [name for name in saved.get('state_dict', saved) or () if not isinstance(name, str)]
    if strange:
        raise InputError(f'checkpoint {str(path)!r} cannot be used: it has an entry by the name {strange[0]!r}')
    network = network_of(module)
    if network is not None:
        weights = saved if prefix is None else _below(prefix, saved, path)
        try:
            fit_weights(build_empty(module), find_backbone(weights, network).backbone)
        except InputError as error:
            raise InputError(f'checkpoint {str(path)!r}: {error}') from error
    return saved


def _below(prefix: str, saved: dict, path: Path) -> dict:
    """Returns what MMEngine's ``Pretrained`` takes of a checkpoint if it is told a prefix."""
    prefix = prefix.rstrip('.') + '.'
    weights = saved.get('state_dict', saved)
    inside = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    if not inside:
        raise InputError(f'checkpoint {str(path)!r} has nothing whose name begins with the prefix {prefix!r} of '
                         'init_cfg; a large-kernel network needs no prefix, it finds itself in what is saved')
    return inside


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
