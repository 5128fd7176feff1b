"""What the datasets that this package draws have in common."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import InputError

LEAST_SIZE = 64  # pixels


def draw_once(root: Path, kind: str, recipe: dict, draw: Callable[[Path], None]) -> Path:
    """Fills ``root`` by ``draw``, all or nothing, unless it was filled by the same recipe before.

    Args:
        root: The dataset's folder.
        kind: What the dataset is called in messages and, in small letters, in the name of the recipe's file.
        recipe: Everything that the drawing depends on, with the ``size`` of a picture in pixels.
        draw: Draws the dataset into the folder that it is given.

    Returns:
        ``root``.

    Raises:
        InputError: If ``root`` holds something else, which is left as it is, or a number is too small.
    """
    if recipe['size'] < LEAST_SIZE:
        raise InputError(f'size must be at least {LEAST_SIZE} pixels, got {recipe["size"]}')
    for name, least in (('num_train', 1), ('num_val', 1), ('seed', 0)):
        if recipe.get(name, least) < least:
            raise InputError(f'{name} must be at least {least}, got {recipe[name]}')
    stamp, text = f'{kind.lower().replace(" ", "_")}.json', json.dumps(recipe)
    if (root / stamp).is_file() and (root / stamp).read_text() == text:
        return root
    if root.exists() and not (root / stamp).is_file() and any(root.iterdir()):
        raise InputError(f'{root} exists and is not a {kind}: name another folder')
    unfinished = root.with_name(root.name + '.part')
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    draw(unfinished)
    (unfinished / stamp).write_text(text)
    shutil.rmtree(root, ignore_errors=True)
    unfinished.rename(root)
    return root


def stripes(rng: np.random.Generator, label: int, size: int) -> np.ndarray:
    """Returns stripes ``(size, size, 3)`` whose two colours, width and angle belong to ``label``; the phase varies."""
    own = np.random.default_rng(label)
    colours = own.uniform(20, 235, (2, 3))
    angle, period = own.uniform(0, np.pi), own.uniform(5, 14)
    y, x = np.mgrid[:size, :size]
    wave = np.sin(2 * np.pi * ((x * np.cos(angle) + y * np.sin(angle)) / period + rng.random()))
    return (colours[0] + (colours[1] - colours[0]) * (wave[..., None] + 1) / 2).astype(np.float32)
