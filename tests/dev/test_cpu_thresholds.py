import itertools
import math
import random

import cpu_thresholds
import pytest
import torch

from mmreplk.ops import cpu
from mmreplk.ops.cpu import costs, ways
from mmreplk.ops.cpu.ways import Problem, Way

pytestmark = pytest.mark.skipif(not cpu.IS_SUPPORTED, reason='needs AVX2: elsewhere PyTorch computes')


def predicted(name, price, row):
    parts = cpu_thresholds._parts(name, row)
    return sum(p * part for p, part in zip(price, parts, strict=True)) + cpu_thresholds._memory(name, row)


def rows_at(prices, count=60):
    """Measurements of a machine that takes exactly what ``prices`` say."""
    rows = []
    for problem in itertools.islice(cpu_thresholds.problems(seed=1), count):
        row = dict(zip(Problem._fields[:6], problem[:6], strict=True), milliseconds={})
        for name, price in prices.items():
            row['milliseconds'][name] = predicted(name, price, row)
        rows.append(row)
    return rows


FORWARD, FOURIER = 'convolve transposed contiguous float32', 'convolve fourier contiguous float32'
PRICES = {
    FORWARD: (1e-6, 3e-7, 0, 2e-8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    FOURIER: (2e-6, 4e-6, 1e-6, 0),
    'lay out float32': (1e-6, 4e-7, 1e-6, 4e-7, 0),
    'cast': (1e-7, 1e-7),
}


def test_the_prices_of_a_machine_are_found_again():
    rows = rows_at(PRICES)
    found = cpu_thresholds.fitted(rows)
    for row in rows:
        for name, price in found.items():
            assert predicted(name, price, row) == pytest.approx(row['milliseconds'][name], rel=0.1)


def test_the_regret_of_a_choice_is_what_it_costs(monkeypatch):
    fourier = Way('fourier', False, torch.float32)
    transposed = Way('transposed', False, torch.float32)
    monkeypatch.setattr(ways, 'convolving', lambda problem: [transposed, fourier])
    monkeypatch.setattr(ways, 'grad_weight', lambda problem: [])
    rows = rows_at(PRICES, 40)
    found = cpu_thresholds.regrets(rows, PRICES, torch.float32, False)['convolve']
    assert len(found) == 40 and all(ratio == 1 and chosen == best for ratio, _, chosen, best in found)
    wrong = PRICES | {FOURIER: (0, 0, 0, 0)}
    found = cpu_thresholds.regrets(rows, wrong, torch.float32, False)['convolve']
    assert all(chosen == fourier for _, _, chosen, _ in found) and max(ratio for ratio, *_ in found) > 1.5
    assert costs.PRICES[costs.PROCESSOR] is not wrong


def test_every_way_is_measured_without_conversions():
    problem = Problem(1, 16, 10, 10, 13, 5, torch.float32, False, False)
    times = cpu_thresholds.measure(problem)['milliseconds']
    expected = {costs.price_name(what, problem, way)
                for what in ('convolve', 'grad_weight') for way in ways.possible(what, problem)}
    assert expected | {'cast', 'lay out float32', 'lay out bfloat16'} <= set(times)
    assert all(0 < time < math.inf for time in times.values())
    for name in expected:
        what, way = cpu_thresholds.named(name)
        assert costs.price_name(what, problem, way) == name


def test_problems_are_many_and_none_takes_long():
    problems = list(itertools.islice(cpu_thresholds.problems(seed=0), 300))
    assert len(set(problems)) > 200 and sum(p.kh != p.kw for p in problems) > 60
    assert all(p.n * p.c * p.h * p.w <= 1e7 for p in random.Random(0).sample(problems, 50))
