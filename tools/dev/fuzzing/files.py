"""Damage to any file, and to pictures."""

import os
from pathlib import Path
from random import Random

import cv2
import numpy as np
from PIL import Image

Image.MAX_IMAGE_PIXELS = None  # this program itself writes too large ones


def truncate(path: Path, rng: Random) -> None:
    path.write_bytes(path.read_bytes()[:rng.randrange(1, path.stat().st_size)])


def flip_bytes(path: Path, rng: Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.randrange(1, 30)):
        content[rng.randrange(len(content))] ^= rng.randrange(1, 256)
    path.write_bytes(content)


def zero_block(path: Path, rng: Random) -> None:
    """Fills a block of the file with zeros, as a faulty disk would."""
    content = bytearray(path.read_bytes())
    begin = rng.randrange(len(content)) // 4096 * 4096
    content[begin:begin + 4096] = bytes(len(content[begin:begin + 4096]))
    path.write_bytes(content)


def empty(path: Path, rng: Random) -> None:
    path.write_bytes(b'')


def text(path: Path, rng: Random) -> None:
    path.write_text('not what it was')


def noise(path: Path, rng: Random) -> None:
    path.write_bytes(rng.randbytes(5000))


def missing(path: Path, rng: Random) -> None:
    path.unlink()


def directory(path: Path, rng: Random) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path, rng: Random) -> None:
    path.unlink()
    os.mkfifo(path)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def save(path: Path, array: np.ndarray) -> None:
    """Writes a picture in the format that ``path`` ends with."""
    Image.fromarray(array).save(path)


def smaller(path: Path, rng: Random) -> None:
    array = read(path)
    save(path, array[:rng.randrange(8, array.shape[0] - 1), :rng.randrange(8, array.shape[1])])


def one_pixel(path: Path, rng: Random) -> None:
    save(path, read(path)[:1, :1])


def huge(path: Path, rng: Random) -> None:
    """Writes 900 million pixels in a file of less than a megabyte."""
    Image.new('1', (30000, 30000)).save(path, format='PNG')


def grey(path: Path, rng: Random) -> None:
    save(path, read(path)[..., 0])


def sixteen_bits(path: Path, rng: Random) -> None:
    Image.fromarray(read(path)[..., 0].astype(np.uint16) * 256).save(path, format='PNG')


def transparent(path: Path, rng: Random) -> None:
    array = read(path)
    Image.fromarray(np.dstack([array, array[..., :1]])).save(path, format='PNG')


def seen(path: Path) -> np.ndarray | None:
    """Returns a picture as MMCV's loaders read it; None if they cannot."""
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None


def same_picture(path: Path, other: Path) -> bool:
    """Says whether two files hold the same pixels."""
    one, two = seen(path), seen(other)
    return one is not None and two is not None and one.shape == two.shape and (one == two).all()
