"""What a model tells apart, and in which colours it is shown."""

import colorsys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from ...errors import InputError


class Classes(NamedTuple):
    """Names and colours by label.

    Attributes:
        names: One for each label.
        colours: RGB, ``(len(names), 3)``, uint8.
    """
    names: tuple[str, ...]
    colours: np.ndarray

    def palette(self) -> list[dict]:
        """Returns label, name and colour (``'#rrggbb'``) of each, plain values."""
        colours = ['#{:02x}{:02x}{:02x}'.format(*colour) for colour in self.colours]
        return [dict(label=label, name=name, colour=colours[label]) for label, name in enumerate(self.names)]


def known_classes(cfg: Config, saved: Mapping, count: int) -> Classes:
    """Finds the classes of a trained model.

    Args:
        cfg: Its config; the default scope must be set.
        saved: Its checkpoint, whose meta information is asked before the config's test dataset is.
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
    return Classes(tuple(names), np.array(palette, np.uint8).reshape(-1, 3))


def test_dataset(cfg: Config):
    """Builds the test dataset of ``cfg``, of several the first, without reading a file.

    Raises:
        InputError: If there is none.
    """
    return DATASETS.build(dict(test_dataset_config(cfg), lazy_init=True))


def test_dataset_config(cfg: Config) -> dict:
    """Returns what describes the test dataset, of several the first, inside any wrappers.

    Raises:
        InputError: If there is none.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset')
    while dataset and not dataset.get('pipeline'):
        dataset = dataset.get('dataset') or next(iter(dataset.get('datasets') or []), None)
    if not dataset:
        raise InputError('the config has no test_dataloader.dataset.pipeline, which prepares images for the model')
    return dataset


def _find(metas: Sequence[Mapping], key: str) -> Sequence:
    """Returns the first list under ``key``; a palette may also be the name of one, or 'random'."""
    return next((meta[key] for meta in metas if isinstance(meta.get(key), (list, tuple))), ())


def _hue(label: int) -> tuple[int, ...]:
    """Returns a colour as far from those of the labels before it as the golden angle takes it."""
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.75, 0.95))
