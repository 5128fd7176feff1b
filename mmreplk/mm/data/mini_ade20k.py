"""Small datasets in ADE20K's layout that anyone can make in seconds, and that a network can learn in minutes.

Pictures are of four kinds of scenes. Backgrounds and most objects have a texture of their own. Eight classes do not: a
pale box or disc looks the same everywhere, and only the scene around it, often further away than a small receptive
field reaches, tells a bus from a boat or a sofa.

In the mini surroundings, outlines do not help either: pictures are drawn in the same way, but a pale disc is of the
class of a pale box in its scene.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .drawing import draw_once, stripes

# Names of the classes that occur, by ADE20K's label: 1 to 150 in the annotation files, 0 for what is not labelled.
CLASS_NAMES = {
    1: 'wall', 2: 'building', 3: 'sky', 4: 'floor', 5: 'tree', 6: 'ceiling', 7: 'road', 8: 'bed', 10: 'grass',
    13: 'person', 15: 'door', 17: 'mountain', 18: 'plant', 20: 'chair', 21: 'car', 23: 'painting', 24: 'sofa',
    26: 'house', 27: 'sea', 29: 'rug', 35: 'rock', 37: 'lamp', 44: 'signboard', 47: 'sand', 77: 'boat', 81: 'bus',
    88: 'streetlight', 120: 'ball'
}


@dataclass(frozen=True)
class _Scene:
    background: tuple[int, ...]  # from top to bottom
    objects: tuple[int, ...]  # each with its own texture
    box: int  # what a pale box is here
    disc: int  # what a pale disc is here


_SCENES = (
    _Scene(background=(3, 2, 7), objects=(13, 21, 44, 5), box=81, disc=88),
    _Scene(background=(3, 27, 47), objects=(13, 44, 18), box=77, disc=35),
    _Scene(background=(6, 1, 4), objects=(8, 15, 20, 23, 29, 18), box=24, disc=37),
    _Scene(background=(3, 17, 10), objects=(5, 18, 13, 21), box=26, disc=120),
)
# Labels of the classes of the mini surroundings that only their surroundings tell apart.
NEED_SURROUNDINGS = tuple(scene.box for scene in _SCENES)
_PALE = (205, 205, 200)


def make_mini_ade20k(root: str | Path, num_train: int = 400, num_val: int = 60, size: int = 128, seed: int = 0) -> Path:
    """Draws the dataset into ``root``; a second call with the same arguments finds it there and does nothing.

    Args:
        root: Takes the place of ``ADEChallengeData2016``: gets ``images/`` and ``annotations/``, each with
            ``training/`` and ``validation/``.
        num_train: Number of training pictures.
        num_val: Number of validation pictures.
        size: Height and width of a picture in pixels, at least 64.
        seed: Of the random drawing; the same seed draws the same pictures.

    Returns:
        ``root`` as a path.

    Raises:
        InputError: If ``root`` holds something else, which is left as it is, or ``size`` is too small.
    """
    return _make(Path(root), 'mini ADE20K', num_train, num_val, size, seed, told_by_outline=True)


def make_mini_surroundings(root: str | Path, num_train: int = 300, num_val: int = 60, size: int = 256,
                           seed: int = 0) -> Path:
    """Draws, as :func:`make_mini_ade20k` does, pictures in which only their surroundings tell four classes apart.

    Whatever its outline, a pale object is a bus between buildings and road, a boat where there is sea, a sofa in a room
    and a house before a mountain. It is 0.25 to 0.45 times as wide and high as the picture, and so 32 to 57 pixels from
    its middle to its nearest edge in a picture of 256 pixels.
    """
    return _make(Path(root), 'mini surroundings', num_train, num_val, size, seed, told_by_outline=False)


def _make(root: Path, kind: str, num_train: int, num_val: int, size: int, seed: int, told_by_outline: bool) -> Path:
    def draw(folder: Path) -> None:
        rng = np.random.default_rng(seed)
        for split, short, count in (('training', 'train', num_train), ('validation', 'val', num_val)):
            images, annotations = folder / 'images' / split, folder / 'annotations' / split
            images.mkdir(parents=True)
            annotations.mkdir(parents=True)
            for i in range(1, count + 1):
                image, labels = _draw(rng, size, told_by_outline)
                cv2.imwrite(str(images / f'ADE_{short}_{i:08d}.jpg'), image, [cv2.IMWRITE_JPEG_QUALITY, 95])
                cv2.imwrite(str(annotations / f'ADE_{short}_{i:08d}.png'), labels)

    recipe = dict(version=1, num_train=num_train, num_val=num_val, size=size, seed=seed)
    return draw_once(root, kind, recipe, draw)


def _draw(rng: np.random.Generator, size: int, told_by_outline: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns a picture ``(size, size, 3)`` in BGR and its labels ``(size, size)``, both uint8."""
    scene = _SCENES[rng.integers(len(_SCENES))]
    labels = np.zeros((size, size), np.uint8)
    horizons = [0, int(size * rng.uniform(.2, .35)), int(size * rng.uniform(.5, .7)), size]
    for label, top, bottom in zip(scene.background, horizons[:-1], horizons[1:], strict=True):
        labels[top:bottom] = label
    pale = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(2, 5)):
        label = int(rng.choice(scene.objects))
        _place(rng, rng.integers(2) == 0, size, .12, .3, (labels, label), (pale, 0))
    for label, is_disc in ((scene.box, False), (scene.disc if told_by_outline else scene.box, True)):
        if rng.random() < .7:
            _place(rng, is_disc, size, .25, .45, (labels, label), (pale, 1))
    image = np.zeros((size, size, 3), np.float32)
    for label in np.unique(labels):
        image[labels == label] = stripes(rng, int(label), size)[labels == label]
    image[pale == 1] = _PALE
    image = image * rng.uniform(.85, 1.15) + rng.normal(0, 6, image.shape)
    # Like ADE20K's, some borders are not labelled.
    labels[:rng.integers(3), :] = 0
    return image.clip(0, 255).astype(np.uint8), labels


def _place(rng: np.random.Generator, is_disc: bool, size: int, least: float, most: float,
           *layers: tuple[np.ndarray, int]) -> None:
    """Fills one random disc or box, its extent between ``least`` and ``most`` of the picture, in every layer."""
    height, width = (rng.uniform(least, most, 2) * size).astype(int)
    if is_disc:
        width = height
    y, x = int(rng.integers(0, size - height)), int(rng.integers(0, size - width))
    for canvas, value in layers:
        if is_disc:
            cv2.circle(canvas, (x + width // 2, y + height // 2), height // 2, value, -1)
        else:
            cv2.rectangle(canvas, (x, y), (x + width, y + height), value, -1)
