"""Measures whether a quantity that should stay the same over a long time grows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mmreplk.errors import InputError


class Growth(NamedTuple):
    """The growth of one quantity over a run."""
    median: float
    growth: float
    limit: float

    @property
    def is_flat(self) -> bool:
        """Whether it grew by no more than its limit."""
        return self.growth <= self.limit


def growth(times: Sequence[float], values: Sequence[float], limit: float, warm_up: float = 0.1) -> Growth:
    """Returns by how much ``values`` grew from the end of the warm-up to the end of a run.

    The growth is that of a line whose slope is the median of the slopes between all pairs of values. Neither outliers
    nor a single step change it much.

    Args:
        times: When each value was taken, in any unit, in rising order.
        values: What was measured.
        limit: By how much they may grow over the run.
        warm_up: Share of the time at the beginning that is left out, because caches fill.

    Raises:
        InputError: If fewer than two values remain.

    Source: the Theil-Sen estimator; P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau",
    1968.
    """
    x, y = np.asarray(times, dtype=float), np.asarray(values, dtype=float)
    kept = x >= x[0] + warm_up * (x[-1] - x[0])
    x, y = x[kept], y[kept]
    if len(x) < 2:
        raise InputError(f'growth needs two values after the warm-up, got {len(x)}: measure for longer')
    first, second = np.triu_indices(len(x), 1)
    slope = np.median((y[second] - y[first]) / (x[second] - x[first]))
    return Growth(float(np.median(y)), float(slope * (x[-1] - x[0])), limit)
