"""A small dataset of boxes and masks in COCO's format that anyone can make in seconds.

Bright discs, boxes and triangles lie on a dark ground and over one another, all with random stripes: brightness tells
shapes from the ground, but only outlines and textures tell them from one another. All are of one category.
"""

import json
from pathlib import Path

import cv2
import numpy as np

from .drawing import draw_once, stripes

CATEGORY = 'shape'
_LEAST_VISIBLE = 40  # pixels; shapes of which others leave less to see are not annotated
_TEXTURES = 1000
_GROUND, _SHAPES = (0.4, 0), (0.5, 127)  # what stripes are multiplied by, and what is added


def make_mini_coco(root: str | Path, num_train: int = 300, num_val: int = 40, size: int = 128, seed: int = 0) -> Path:
    """Draws the dataset into ``root``; a second call with the same arguments finds it there and does nothing.

    Args:
        root: Gets ``train/`` and ``val/`` with pictures, and ``annotations/instances_{train,val}.json``.
        num_train: Number of training pictures.
        num_val: Number of validation pictures.
        size: Height and width of a picture in pixels, at least 64.
        seed: Of the random drawing; the same seed draws the same pictures.

    Returns:
        ``root`` as a path.

    Raises:
        InputError: If ``root`` holds something else, which is left as it is, or ``size`` is too small.
    """

    def draw(folder: Path) -> None:
        rng = np.random.default_rng(seed)
        (folder / 'annotations').mkdir()
        for split, count in (('train', num_train), ('val', num_val)):
            (folder / split).mkdir()
            images, annotations = [], []
            for i in range(1, count + 1):
                picture, masks = _draw(rng, size)
                name = f'{i:06d}.jpg'
                cv2.imwrite(str(folder / split / name), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
                images.append(dict(id=i, file_name=name, width=size, height=size))
                annotations += [dict(_annotation(mask), id=len(annotations) + k, image_id=i)
                                for k, mask in enumerate(masks, start=1)]
            labels = dict(images=images, annotations=annotations, categories=[dict(id=1, name=CATEGORY)])
            (folder / 'annotations' / f'instances_{split}.json').write_text(json.dumps(labels))

    recipe = dict(version=2, num_train=num_train, num_val=num_val, size=size, seed=seed)
    return draw_once(Path(root), 'mini COCO', recipe, draw)


def _draw(rng: np.random.Generator, size: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns a picture ``(size, size, 3)``, uint8, BGR, and the visible part of each shape, ``(size, size)``, bool."""
    image = _texture(rng, size, *_GROUND)
    owner = np.zeros((size, size), np.uint8)  # number of the topmost shape, 0 for the ground
    count = int(rng.integers(3, 9))
    for number in range(1, count + 1):
        cv2.fillPoly(owner, [_outline(rng, size)], number)
        image[owner == number] = _texture(rng, size, *_SHAPES)[owner == number]
    image = image * rng.uniform(.85, 1.15) + rng.normal(0, 6, image.shape)
    masks = [owner == number for number in range(1, count + 1)]
    return image.clip(0, 255).astype(np.uint8), [mask for mask in masks if mask.sum() >= _LEAST_VISIBLE]


def _texture(rng: np.random.Generator, size: int, contrast: float, brightness: float) -> np.ndarray:
    """Returns stripes ``(size, size, 3)`` of a kind drawn at random."""
    return contrast * stripes(rng, int(rng.integers(_TEXTURES)), size) + brightness


def _outline(rng: np.random.Generator, size: int) -> np.ndarray:
    """Returns the corners ``(N, 2)`` of a triangle, a box or, with many, a disc, somewhere inside the picture."""
    corners = int(rng.choice([3, 4, 32]))
    radius = rng.uniform(.06, .18) * size
    angles = rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
    centre = rng.uniform(radius, size - radius, 2)
    return (centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)).round().astype(np.int32)


def _annotation(mask: np.ndarray) -> dict:
    """Returns box, area and run lengths of a mask in COCO's format."""
    ys, xs = np.nonzero(mask)
    x, y = int(xs.min()), int(ys.min())
    # Runs go down the columns and begin with one of zeros, which may be empty.
    flat = np.concatenate([[0], mask.ravel(order='F'), [0]])
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return dict(
        category_id=1, iscrowd=0, area=int(mask.sum()),
        bbox=[x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1],
        segmentation=dict(size=list(mask.shape), counts=[int(count) for count in counts]))
