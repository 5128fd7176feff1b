import numpy as np
import pytest

from mmreplk.benchmarks import class_iou, count_pixels, difference, mean_iou


def test_counts_and_mean_iou():
    truth = np.array([[0, 0, 1, 1], [2, 2, 255, 255]], np.uint8)
    predicted = np.array([[0, 1, 1, 1], [2, 0, 0, 0]], np.uint8)
    counts = count_pixels(truth, predicted, 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert mean_iou(counts, [0]) == pytest.approx(100 / 3) and mean_iou(counts, [1]) == pytest.approx(200 / 3)
    assert class_iou(counts) == pytest.approx([100 / 3, 200 / 3, 50, np.nan], nan_ok=True)
    # The last class is nowhere: it has no IoU, and is not counted as none.
    assert mean_iou(counts, range(4)) == pytest.approx(100 * (1 / 3 + 2 / 3 + 1 / 2) / 3)


def pictures(right):
    """Counts of as many pictures of 100 pixels of each of two classes, with so many of the first class right."""
    return np.array([[[n, 100 - n], [0, 100]] for n in right])


def test_the_interval_is_of_the_pictures():
    sure = difference(pictures([90] * 40), pictures([50] * 40), [0])
    assert sure.points == sure.low == sure.high == pytest.approx(40)
    rng = np.random.default_rng(0)
    first, second = (pictures(rng.integers(0, 101, 40)) for _ in range(2))
    same, turned = difference(first, second, [0]), difference(second, first, [0])
    assert same.low < 0 < same.high and same.low < same.points < same.high
    assert turned == pytest.approx((-same.points, -same.high, -same.low))
    few = difference(first[:10], second[:10], [0])
    assert few.high - few.low > 1.5 * (same.high - same.low)
    assert difference(first, second, [0]) == same
