"""Changes to all datasets of a config: another folder, and palettes that can be drawn with."""

import os

from mmengine.config import Config

from ...errors import InputError
from ..checks.dataset import leaf_datasets
from ..checks.values import nodes
from ..kinds import listed_parts

_SPLITS = ('train', 'val', 'test')


def move_data(cfg: Config, root: str) -> None:
    """Points all datasets, and evaluators that name files beside them, to another folder.

    Args:
        cfg: The config, changed in place.
        root: The new folder, laid out like the one that the config names.

    Raises:
        InputError: If the datasets of the config do not all have one folder.
    """
    loaders = [loader for split in _SPLITS if isinstance(loader := cfg.get(f'{split}_dataloader'), dict)]
    datasets = [leaf for loader in loaders for leaf in leaf_datasets(loader.get('dataset') or {})]
    roots = {os.path.normpath(dataset.get('data_root') or '.') for dataset in datasets}
    if len(roots) != 1 or not all(dataset.get('data_root') for dataset in datasets):
        raise InputError(f'--cfg-options data_root={root} is for data that are all in one folder, but the datasets of '
                         f'the config have {", ".join(sorted(roots)) or "none"}: move each by its own data_root, such '
                         'as train_dataloader.dataset.data_root=...')
    before = roots.pop()
    evaluators = [part for split in _SPLITS for part in listed_parts(cfg.get(f'{split}_evaluator'))]
    for part in (*datasets, *evaluators):
        for key, value in part.items() if isinstance(part, dict) else ():
            if isinstance(value, str) and os.path.normpath(value).startswith(before + os.sep):
                part[key] = os.path.join(root, os.path.relpath(value, before))
    for dataset in datasets:
        dataset['data_root'] = root
    if 'data_root' in cfg:
        cfg.data_root = root


def make_palettes_drawable(cfg: Config) -> None:
    """Turns the colours of every ``metainfo.palette`` into tuples: MMDetection cannot draw with lists."""
    for path, meta in nodes(dict(cfg.items())):
        palette = meta.get('palette') if path.endswith('metainfo') and isinstance(meta, dict) else None
        if isinstance(palette, (list, tuple)):
            meta['palette'] = [tuple(colour) if isinstance(colour, list) else colour for colour in palette]
