"""Label maps side by side that need no legend: the name of its class is written into every region."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import InputError
from .contact_sheet import GAP, read_maps

LEAST_REGION = 0.01  # of the picture; smaller ones are not named
HEADING = 24  # pixels
UNLABELLED = 255


def named_sheet(dataset: Sequence, predictions: Mapping[str, str | Path], indices: Sequence[int]) -> np.ndarray:
    """Draws rows of image, truth and the predictions of several models, with the names of the classes.

    Args:
        dataset: A segmentation dataset of MMSegmentation.
        predictions: By title, folders that ``tools/test.py --out`` wrote.
        indices: Which pictures of the dataset, all of one size.

    Returns:
        The sheet ``(H, W, 3)``, uint8, BGR as OpenCV writes it. What the truth leaves unlabelled is black in all maps.

    Raises:
        InputError: If there is no picture to draw, a file is missing, or pictures or predictions are of several sizes.
    """
    classes = dict(names=dataset.metainfo['classes'], palette=dataset.metainfo['palette'])
    rows = [_row(*read_maps(dataset, index, *predictions.values()), **classes) for index in indices]
    sizes = {row.shape for row in rows}
    if len(sizes) != 1:
        raise InputError(f'pictures of one size are needed, got {len(rows)} pictures of {len(sizes)} sizes')
    return np.concatenate([_heading(['image', 'truth', *predictions], rows[0].shape[1]), *rows])


def _row(image: np.ndarray, truth: np.ndarray, *predicted: np.ndarray, names: Sequence[str],
         palette: Sequence) -> np.ndarray:
    maps = [np.where(truth == UNLABELLED, truth, labels) for labels in (truth, *predicted)]
    parts = [image, *(draw_named(labels, names, palette) for labels in maps)]
    return np.concatenate([np.pad(part, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for part in parts], 1)


def _heading(titles: Sequence[str], width: int) -> np.ndarray:
    strip = Image.new('RGB', (width, HEADING), 'white')
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(15)
    for i, title in enumerate(titles):
        draw.text((i * width / len(titles) + 2, 2), title, 'black', font)
    return np.asarray(strip)[..., ::-1]


def draw_named(labels: np.ndarray, names: Sequence[str], palette: Sequence) -> np.ndarray:
    """Draws a label map in the classes' colours, with the name of its class in every region that is large enough.

    Args:
        labels: ``(H, W)``, uint8, 255 where unlabelled, which is black.
        names: Of the classes, by label.
        palette: The classes' colours by label, RGB.

    Returns:
        ``(H, W, 3)``, uint8, BGR.
    """
    colours = np.zeros((256, 3), np.uint8)
    colours[:len(palette)] = palette
    image = Image.fromarray(colours[labels])
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for label in np.setdiff1d(labels, UNLABELLED):
        for x, y in _middles(labels == label):
            half = (font.getlength(names[label]) + 4) / 2
            place = min(max(x, half), labels.shape[1] - half), min(max(y, 9), labels.shape[0] - 9)
            draw.text(place, names[label].strip(), 'white', font, 'mm', stroke_width=2, stroke_fill='black')
    return np.asarray(image)[..., ::-1]


def _middles(mask: np.ndarray) -> list[tuple[int, int]]:
    """Returns a place well inside, as x and y, of each connected region of ``mask`` that is not too small."""
    count, regions, figures, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    places = []
    for region in range(1, count):
        if figures[region, cv2.CC_STAT_AREA] >= LEAST_REGION * mask.size:
            inside = np.pad(regions == region, 1).astype(np.uint8)
            depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
            # Of the places nearly as far from the edge as any, the one nearest the centre.
            inner = np.argwhere(depth >= 0.9 * depth.max())[:, ::-1]
            places.append(tuple(inner[((inner - centres[region])**2).sum(1).argmin()].tolist()))
    return places
