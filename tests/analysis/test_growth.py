import multiprocessing
import subprocess
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from mmreplk import InputError
from mmreplk.analysis.growth import growth
from mmreplk.analysis.resources import held_resources, peak_mib


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


def check_what_is_held():
    before, stop = held_resources(), threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    with tempfile.TemporaryFile(), subprocess.Popen(['sleep', '60']) as child:
        during = held_resources()
        child.kill()
    stop.set()
    thread.join()
    assert {name: during[name] - before[name] for name in ('files', 'threads', 'children')} == dict(
        files=1, threads=1, children=1)
    assert held_resources()['files'] == before['files']


def check_peak():
    assert 95 < peak_mib(lambda: np.ones(100 * 2**17).sum()) < 120


def test_what_a_process_holds():
    """In a process of its own: in this one, what other tests left goes when it likes."""
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        for check in (check_what_is_held, check_peak):
            pool.submit(check).result()
