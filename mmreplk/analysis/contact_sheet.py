"""Predictions beside the truth, in one picture."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError

GAP = 4  # pixels between the parts of a sheet


def contact_sheet(dataset: Sequence, predictions: str | Path, count: int = 6) -> np.ndarray:
    """Draws rows of image, ground truth and prediction, for ``count`` pictures spread over ``dataset``.

    Args:
        dataset: A segmentation dataset of MMSegmentation.
        predictions: The folder that ``tools/test.py --out`` wrote: one label map per image.
        count: Number of rows at most.

    Returns:
        The sheet ``(H, W, 3)``, uint8, BGR as OpenCV writes it. What the ground truth leaves unlabelled is black in
        both maps.

    Raises:
        InputError: If a prediction is missing or does not fit its image.
    """
    colours = np.zeros((256, 3), np.uint8)
    palette = np.array(dataset.metainfo['palette'], np.uint8)[:, ::-1]
    colours[:len(palette)] = palette
    rows = []
    for i in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int):
        info = dataset.get_data_info(int(i))
        image, truth = cv2.imread(info['img_path']), cv2.imread(info['seg_map_path'], cv2.IMREAD_UNCHANGED)
        path = Path(predictions, Path(info['img_path']).stem + '.png')
        predicted = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if predicted is None or predicted.shape != truth.shape:
            raise InputError(f'{path} is missing or not a label map of {truth.shape[1]}x{truth.shape[0]} pixels')
        if info.get('reduce_zero_label'):
            # Files hold 0 for unlabelled and classes from 1 on; the subtraction wraps 0 around to 255.
            truth, predicted = truth - np.uint8(1), predicted - np.uint8(1)
        predicted[truth == 255] = 255
        rows.append(_join([image, colours[truth], colours[predicted]], axis=1))
    return _join(rows, axis=0)


def _join(parts: list[np.ndarray], axis: int) -> np.ndarray:
    """Joins pictures with white gaps, in a column (axis 0) or a row (axis 1)."""
    length = max(part.shape[1 - axis] for part in parts)
    padded = []
    for part in parts:
        margin = [(0, 0), (0, 0), (0, 0)]
        margin[axis] = (0, GAP)
        margin[1 - axis] = (0, length - part.shape[1 - axis])
        padded.append(np.pad(part, margin, constant_values=255))
    return np.concatenate(padded, axis).take(range(sum(p.shape[axis] for p in padded) - GAP), axis)
