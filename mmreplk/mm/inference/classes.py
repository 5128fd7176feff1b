"""The classes that a model tells apart, and the colours in which they are shown."""

import colorsys
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DATASETS

from ...errors import InputError
from ..checks.coco_file import read_coco
from ..checks.dataset import dataset_class, leaf_datasets
from ..data.categories import COCO_IDS, ids_of_classes
from ..data.reading import unwrapped


class Classes(NamedTuple):
    """Names and colours by label.

    Attributes:
        names: One for each label.
        colours: RGB, ``(len(names), 3)``, uint8.
        ids: The category id of each in COCO's format; empty for 1, 2, 3, ...
    """
    names: tuple[str, ...]
    colours: np.ndarray
    ids: tuple[int | str, ...] = ()

    def category_id(self, label: int) -> int | str:
        """Returns the category id of a label in COCO's format."""
        return self.ids[label] if self.ids else label + 1

    def palette(self) -> list[dict]:
        """Returns label, name and colour (``'#rrggbb'``) of each, plain values."""
        colours = ['#{:02x}{:02x}{:02x}'.format(*colour) for colour in self.colours]
        return [dict(label=label, name=name, colour=colours[label]) for label, name in enumerate(self.names)]


def known_classes(cfg: Config, saved: Mapping, count: int) -> Classes:
    """Finds the classes of a trained model.

    Args:
        cfg: Its config; the default scope must be set.
        saved: Its checkpoint, whose meta information goes before that of the config's test dataset.
        count: How many labels there are; those without a name or a colour get one.
    """
    meta = saved.get('meta') if isinstance(saved.get('meta'), Mapping) else {}
    # MMSegmentation 0.x and MMDetection 2.x write CLASSES and PALETTE into meta itself.
    metas = [{str(k).lower(): v for k, v in m.items()} for m in (meta.get('dataset_meta') or {}, meta)]
    metas.append(test_dataset(cfg).metainfo if not all(_find(metas, key) for key in ('classes', 'palette')) else {})
    names = [str(name) for name in _find(metas, 'classes')][:count]
    names += [f'class {label}' for label in range(len(names), count)]
    palette = [tuple(colour) for colour in _find(metas, 'palette')][:count]
    palette += [_hue(label) for label in range(len(palette), count)]
    ids = _ids(cfg, metas, names) if cfg.get('default_scope') == 'mmdet' else ()
    return Classes(tuple(names), np.array(palette, np.uint8).reshape(-1, 3), ids)


def _ids(cfg: Config, metas: Sequence[Mapping], names: Sequence[str]) -> tuple[int | str, ...]:
    """Returns the numbers of a detector's classes: the checkpoint's, else those of an annotation file of the config."""
    ids = _find(metas, 'category_ids')
    loaders = [cfg.get(f'{split}_dataloader') or {} for split in ('test', 'val', 'train')]
    for dataset in (leaf for loader in loaders for leaf in leaf_datasets(loader.get('dataset') or {})):
        path = os.path.join(dataset.get('data_root') or '', dataset.get('ann_file') or '')
        if not ids and path.endswith('.json') and os.path.isfile(path):
            with suppress(InputError):  # what is wrong with the data is said where they are needed
                ids = ids_of_classes(read_coco(path, labelled=False), names) or ()
    coco = dataset_class(dict(type='CocoDataset'))
    if not ids and tuple(names) == tuple(coco.METAINFO['classes']):
        ids = COCO_IDS
    if len(ids) == len(names):
        return tuple(ids)
    print_log('Neither the checkpoint nor an annotation file of the config says which numbers its categories have in '
              "COCO's format: they are numbered from 1 on.", logger='current', level=logging.WARNING)
    return ()


def test_dataset(cfg: Config):
    """Builds the test dataset of ``cfg``, the first if there are several, without reading a file.

    Raises:
        InputError: If there is none.
    """
    return DATASETS.build(dict(test_dataset_config(cfg), lazy_init=True))


def test_dataset_config(cfg: Config) -> dict:
    """Returns the description of the test dataset inside any wrappers, the first if there are several.

    Raises:
        InputError: If there is none.
    """
    dataset = unwrapped((cfg.get('test_dataloader') or {}).get('dataset'))
    if not dataset:
        raise InputError('the config has no test_dataloader.dataset.pipeline, which prepares images for the model')
    return dataset


def _find(metas: Sequence[Mapping], key: str) -> Sequence:
    """Returns the first list under ``key``; a palette may also be the name of one, or 'random'."""
    return next((meta[key] for meta in metas if isinstance(meta.get(key), (list, tuple))), ())


def _hue(label: int) -> tuple[int, ...]:
    """Returns a colour whose hue is the golden angle away from that of the label before, so that all hues differ."""
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.75, 0.95))
