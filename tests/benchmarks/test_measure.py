import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from mmreplk.benchmarks.measure import peak_mib, time_in_turns


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
    """In a process of its own: in this one, what other tests left goes when it likes."""
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        pool.submit(check_peak).result()
