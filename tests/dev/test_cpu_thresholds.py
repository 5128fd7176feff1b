import math

import cpu_thresholds
import pytest
import torch

from mmreplk.ops import cpu


def test_the_first_size_from_which_all_are_faster():
    assert cpu_thresholds._first_lasting({3: .5, 5: 2, 7: .9, 9: 1.1, 11: 3}) == 9
    assert cpu_thresholds._first_lasting({3: .5, 5: .9}) == math.inf


@pytest.mark.parametrize(('crossing', 'expected'), [(1e6, 1e6), (math.inf, math.inf), (0, 5e4)])
def test_work_from_which_nine_of_ten_are_faster(monkeypatch, crossing, expected):
    monkeypatch.setattr(cpu, 'SMALLEST_GRAD_WEIGHT', 5)
    monkeypatch.setattr(cpu_thresholds, '_work_ratio', lambda n, c, h, k, trains: 1 + (n * c * (h * k)**2 - crossing))
    measured = cpu_thresholds.measure_work(trains=True)
    assert measured == expected or expected <= measured <= 2 * expected


@pytest.mark.skipif(not cpu.IS_SUPPORTED, reason='needs AVX2: elsewhere PyTorch computes')
def test_the_ways_are_timed(monkeypatch):
    ratios = cpu_thresholds._kernel_size_ratios(1, 32, 32, 21)
    assert all(0 < ratio < math.inf for ratio in ratios)
    with torch.no_grad():
        assert cpu_thresholds._work_ratio(1, 128, 28, 31, trains=False) > 1
    assert cpu_thresholds._work_ratio(1, 128, 28, 31, trains=True) > 1
