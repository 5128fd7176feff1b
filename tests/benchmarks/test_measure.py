from types import SimpleNamespace

import numpy as np
import pytest

from mmreplk.benchmarks.measure import peak_mib, time_in_turns
from tests.processes import alone


def test_functions_take_turns():
    calls, clock = [], SimpleNamespace(now=0.)

    def work(name, seconds):
        calls.append(name)
        clock.now += seconds

    times = time_in_turns(dict(short=lambda: work('a', .002), long=lambda: work('b', .02)), rounds=3,
                          clock=lambda: clock.now)
    assert times['short'] == pytest.approx([2] * 3) and times['long'] == pytest.approx([20] * 3)
    assert calls.count('a') == 2 + 3 * 2 * 3 and calls.count('b') == 2 + 3, 'short ones several times a turn'
    turns = [name for name, before in zip(calls, [None, *calls], strict=False) if name != before]
    assert turns == ['a', 'b'] * 4, 'a warm-up and three rounds'


def check_peak():
    assert 95 < peak_mib(lambda: np.ones(100 * 2**17).sum()) < 120


def test_peak_memory():
    alone(check_peak)
