"""Configs as the tools need them: read, overridden from the command line, fitted to the machine."""

import difflib
import importlib.util
import logging
import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from ...errors import InputError
from ...shipped import find_config
from ..checks.values import nodes
from ..kinds import kind_of
from .datasets import make_palettes_drawable, move_data
from .unread import READ, hooks_of_bases, replaced_hooks, unread_names, unread_options

FRAMEWORKS = dict(mmseg='MMSegmentation', mmdet='MMDetection')


def load_config(path: str, overrides: dict | None = None, work_dir: str | None = None,
                launcher: str = 'none') -> Config:
    """Reads a config file and applies what a command line says.

    Args:
        path: The config file, or the name of a config that comes with the package (:mod:`mmreplk.shipped`).
        overrides: ``--cfg-options``: values by dotted key, such as ``{'train_dataloader.batch_size': 2}``;
            ``data_root`` moves the data of all splits.
        work_dir: Where logs and checkpoints go; else what the config says, else ``work_dirs/<config name>``.
        launcher: How the processes were started: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Returns:
        The config, with ``SyncBN`` as ``BN`` where there is one process or no GPU, and without a GPU with
        ``AmpOptimWrapper`` as :class:`mmreplk.mm.CPUAmpOptimWrapper`.

    Raises:
        InputError: If the file is missing or cannot be read, an override does not fit it, or the framework that it is
            for is not installed.
    """
    path = str(find_config(path))
    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is a program: anything can go wrong in it
        raise InputError(f'config {path!r} cannot be read: {type(error).__name__}: {error}') from error
    overrides = dict(overrides or {})
    root = overrides.pop('data_root', None)
    if root is not None:
        move_data(cfg, str(root))
    _refuse_misspelt(path, cfg, overrides)
    for sentence in unread_options(cfg, overrides):
        raise InputError(f'--cfg-options {sentence}')
    hooks = [*hooks_of_bases(path), *(cfg.get('custom_hooks') or [])]
    new = {key.partition('.')[0] for key in overrides} - {*cfg, *READ}
    said = [*unread_names(path),
            *(f'{name!r} of --cfg-options is a new name, which only your own code can read' for name in sorted(new))]
    try:
        cfg.merge_from_dict(overrides)
    except (KeyError, TypeError, IndexError) as error:
        raise InputError(f'--cfg-options do not fit {path}: {error}') from error
    for key in ('model', 'model.backbone'):
        node = cfg.get('model') if key == 'model' else (cfg.get('model') or {}).get('backbone')
        if node is not None and not isinstance(node, dict):
            raise InputError(f'{key} of {path} must be a dict, got {node!r}')
    make_palettes_drawable(cfg)
    if not cfg.get('default_scope'):
        # Pure-Python configs need no scope, but the registries in which strings are looked up do.
        framework = getattr((cfg.get('model') or {}).get('type'), '__module__', '').partition('.')[0]
        if framework in FRAMEWORKS:
            cfg.default_scope = framework
    for key, node in nodes(cfg.get('model') or {}):
        # MMEngine writes classes with their modules; MMDetection finds a layer of mmcv.ops by its bare name only.
        if key.rpartition('.')[2] == 'roi_layer' and isinstance(node, dict) and isinstance(node.get('type'), str):
            node['type'] = kind_of(node)
    framework = cfg.get('default_scope')
    if framework in FRAMEWORKS and importlib.util.find_spec(framework) is None:
        raise InputError(f'{path} is for {FRAMEWORKS[framework]}, and {framework} is not installed: see requirements/')
    gone = replaced_hooks(cfg, hooks)
    if gone:
        said.append(f'custom_hooks of {path} replace those of its base: {", ".join(gone)} will not run. To add to '
                    'them, write custom_hooks = [*_base_.custom_hooks, ...]')
    for sentence in said if os.environ.get('RANK', '0') == '0' else ():
        print_log(sentence, logger='current', level=logging.WARNING)
    cfg.launcher = launcher
    cfg.work_dir = work_dir or cfg.get('work_dir') or f'./work_dirs/{Path(path).stem}'
    has_gpu = torch.cuda.is_available()
    if launcher == 'none' or not has_gpu:
        replaced = sum(map(_replace_sync_bn, cfg.values()))
        if replaced and os.environ.get('RANK', '0') == '0':
            reason = 'there is one process' if has_gpu else 'there is no GPU'
            print_log(f'SyncBN is replaced by BN in {replaced} places of the config, since {reason}.', logger='current')
    if not has_gpu and kind_of(cfg.get('optim_wrapper')) == 'AmpOptimWrapper':
        cfg.optim_wrapper.type = 'CPUAmpOptimWrapper'
        print_log('AmpOptimWrapper is replaced by CPUAmpOptimWrapper, since there is no GPU.', logger='current')
    return cfg


def _refuse_misspelt(path: str, cfg: Config, overrides: dict) -> None:
    """Refuses a new name that resembles a known one: MMEngine would add it, and nothing would read it."""
    known = {*cfg, *READ}
    for name in {key.partition('.')[0] for key in overrides} - known:
        for meant in difflib.get_close_matches(name, known, 1, .8):
            raise InputError(f'--cfg-options do not fit {path}: it has no {name!r}; did you mean {meant!r}?')


def _replace_sync_bn(node: object) -> int:
    """Replaces SyncBN by BN below ``node``; returns in how many places."""
    if isinstance(node, dict):
        here = kind_of(node) in ('SyncBN', 'SyncBatchNorm')
        if here:
            node['type'] = 'BN'
        return here + sum(map(_replace_sync_bn, node.values()))
    return sum(map(_replace_sync_bn, node)) if isinstance(node, (list, tuple)) else 0
