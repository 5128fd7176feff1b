"""Layers over pictures."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .classes import Classes

COLUMN = 30  # lines of a legend in one column


class Entry(NamedTuple):
    """A line of a legend: a class, its colour (RGB) and how much of it there is."""
    name: str
    colour: tuple[int, int, int]
    amount: str


def blend(image: np.ndarray, layer: np.ndarray, opacity: float) -> np.ndarray:
    """Lays ``layer`` over ``image``.

    Args:
        image: BGR ``(H, W, 3)``, uint8, as OpenCV reads it.
        layer: RGBA ``(H, W, 4)``, uint8.
        opacity: 0 for the picture alone, 1 for the layer as opaque as it is.

    Returns:
        BGR ``(H, W, 3)``, uint8.
    """
    weight = (layer[..., 3:] * opacity).round().astype(np.uint16)
    return ((image * (255 - weight) + layer[..., 2::-1] * weight + 127) // 255).astype(np.uint8)


def legend_sheet(classes: Classes) -> np.ndarray:
    """Draws the name of every class beside its colour: BGR ``(H, W, 3)``, uint8."""
    font = ImageFont.load_default(14)
    width = 60 + round(max(font.getlength(name) for name in classes.names))
    rows, columns = min(len(classes.names), COLUMN), -(-len(classes.names) // COLUMN)
    sheet = Image.new('RGB', (width * columns, 24 * rows + 12), 'white')
    draw = ImageDraw.Draw(sheet)
    for label, name in enumerate(classes.names):
        x, y = label // COLUMN * width + 10, label % COLUMN * 24 + 8
        draw.rectangle((x, y, x + 26, y + 18), tuple(classes.colours[label].tolist()), 'gray')
        draw.text((x + 36, y), name, 'black', font)
    return np.asarray(sheet)[..., ::-1]
