"""Intersection over union of some of the classes, and whether two models differ in it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 2000


class Difference(NamedTuple):
    """Mean IoU of one model less that of another, in points.

    Attributes:
        points: The difference.
        low: The lower end of its 95 % interval over draws of as many of the same pictures, with repetition.
        high: The upper end.
    """
    points: float
    low: float
    high: float


def count_pixels(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts the pixels of a picture by true and predicted class.

    Args:
        truth: Labels ``(H, W)``; those from ``num_classes`` on are not counted.
        predicted: Labels ``(H, W)``.
        num_classes: How many classes there are.

    Returns:
        ``(num_classes, num_classes)``, true classes by row.
    """
    known = truth < num_classes
    pairs = truth[known].astype(np.int64) * num_classes + predicted[known]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(counts: np.ndarray) -> np.ndarray:
    """Returns the IoU of each class in percent, ``(C,)``; NaN for those that are neither true nor predicted.

    Args:
        counts: Pixels by true and predicted class, ``(C, C)``.
    """
    both = counts.diagonal().astype(float)
    either = counts.sum(0) + counts.sum(1) - both
    return 100 * np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)


def mean_iou(counts: np.ndarray, classes: Sequence[int]) -> float:
    """Returns the mean IoU in percent over ``classes``, without those that are neither true nor predicted.

    Args:
        counts: Pixels by true and predicted class, ``(C, C)``, of all pictures together.
        classes: Labels.
    """
    return float(np.nanmean(class_iou(counts)[list(classes)]))


def difference(first: np.ndarray, second: np.ndarray, classes: Sequence[int], seed: int = 0) -> Difference:
    """Compares two models on the same pictures, and on draws of as many of these pictures, with repetition.

    This does not cover what another training of the same models would change.

    Args:
        first: Pixels by picture, true and predicted class, ``(N, C, C)``, of one model.
        second: Those of the other.
        classes: Labels over which the IoU is averaged.
        seed: The seed of the draws.
    """
    def points(chosen: np.ndarray) -> float:
        return mean_iou(first[chosen].sum(0), classes) - mean_iou(second[chosen].sum(0), classes)

    pictures = np.arange(len(first))
    draws = np.random.default_rng(seed).choice(pictures, (DRAWS, len(first)))
    low, high = np.percentile([points(chosen) for chosen in draws], (2.5, 97.5))
    return Difference(points(pictures), float(low), float(high))
