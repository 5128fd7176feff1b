"""Merges detections in overlapping windows into detections in the whole picture."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .detections import Detections

MARGIN = 2  # pixels; a box that comes this near to the edge of its window is taken for cut
OVERLAP = 0.5  # share of the smaller box; two windows see the same object if more of it is in common


def merge(parts: Sequence[Detections], corners: Sequence[tuple[int, int]], size: tuple[int, int]) -> Detections:
    """Moves what was found in windows to where it is in the picture, and drops what is there twice.

    If two windows find an object, the one that contains it whole wins or, where both or neither do, the one with the
    higher score. Objects wider than the overlap of windows may be in none of them whole, and then stay in parts. Boxes
    of the same window are not compared with each other. (MMDetection's own merging suppresses by intersection over
    union, for which a part and its whole are two objects, and needs another package.)

    Args:
        parts: What was found in each window.
        corners: Top and left of each window in the picture.
        size: Height and width of the picture.

    Returns:
        The detections of the whole picture, the surest first.
    """
    offsets = np.concatenate([np.tile((left, top, left, top), (len(part.boxes), 1))
                              for part, (top, left) in zip(parts, corners, strict=True)])
    boxes = np.concatenate([part.boxes for part in parts]) + offsets
    scores, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ('scores', 'labels'))
    window = np.repeat(np.arange(len(parts)), [len(part.boxes) for part in parts])
    is_cut = np.concatenate([_cut(part, corner, size) for part, corner in zip(parts, corners, strict=True)])
    kept = np.array(_distinct(boxes, labels, window, np.lexsort((-scores, is_cut))), int)
    kept = kept[np.argsort(-scores[kept], kind='stable')]
    masks = None
    if parts[0].masks is not None:
        own = [mask for part in parts for mask in part.masks]
        masks = [_moved(own[i], offsets[i][1], offsets[i][0], size) for i in kept]
    return replace(parts[0], boxes=boxes[kept], scores=scores[kept], labels=labels[kept], masks=masks, size=size)


def _cut(part: Detections, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Says of each box whether it reaches an edge of its window that is not an edge of the picture."""
    (top, left), (height, width) = corner, part.size
    return (((part.boxes[:, 0] < MARGIN) & (left > 0)) | ((part.boxes[:, 1] < MARGIN) & (top > 0))
            | ((part.boxes[:, 2] > width - MARGIN) & (left + width < size[1]))
            | ((part.boxes[:, 3] > height - MARGIN) & (top + height < size[0])))


def _distinct(boxes: np.ndarray, labels: np.ndarray, window: np.ndarray, order: np.ndarray) -> list[int]:
    """Returns the boxes, in ``order``, without those whose object an earlier one shows through another window."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        common = (np.minimum(boxes[best, 2:], boxes[order, 2:]) - np.maximum(boxes[best, :2], boxes[order, :2])).clip(0)
        is_same = common.prod(1) > OVERLAP * np.minimum(areas[best], areas[order])
        order = order[~(is_same & (labels[order] == labels[best]) & (window[order] != window[best]))]
    return kept


def _moved(mask: dict, top: int, left: int, size: tuple[int, int]) -> dict:
    from pycocotools import mask as coco  # comes with MMDetection
    whole = np.zeros(size, np.uint8, order='F')
    height, width = mask['size']
    whole[top:top + height, left:left + width] = coco.decode(mask)
    return coco.encode(whole)
