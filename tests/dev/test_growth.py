import numpy as np
import pytest
from growth import growth

from mmreplk import InputError


def test_a_slow_leak_is_found_in_noise():
    rng = np.random.default_rng(0)
    times = np.linspace(0, 60, 400)
    noise = 700 + rng.normal(0, 3, 400)
    assert growth(times, noise, limit=2).is_flat
    leaking = growth(times, noise + times / 10, limit=2)
    assert leaking.growth == pytest.approx(.9 * 6, abs=1) and not leaking.is_flat


def test_neither_the_warm_up_nor_outliers_count():
    times = np.arange(100.)
    values = np.where(times < 9, times, 20)
    values[[30, 60, 95]] = 1000
    assert growth(times, values, limit=.5) == (20, 0, .5)


def test_too_few_values():
    with pytest.raises(InputError, match='needs two values after the warm-up, got 1'):
        growth([0, 1], [1, 1], limit=1)
