import subprocess
import tempfile
import threading
import time

import numpy as np

from mmreplk.benchmarks.measure import held_resources, peak_mib, time_in_turns


def test_functions_take_turns():
    calls = []

    def work(name, seconds):
        calls.append(name)
        time.sleep(seconds)

    times = time_in_turns(dict(short=lambda: work('a', .002), long=lambda: work('b', .02)), rounds=3)
    assert len(times['short']) == 3 and 2 <= np.median(times['short']) < np.median(times['long'])
    assert np.median(times['long']) >= 20
    turns = [name for name, before in zip(calls, [None, *calls], strict=False) if name != before]
    assert turns == ['a', 'b'] * 4, 'a warm-up and three rounds'


def test_held_resources_counts():
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


def test_peak_mib_sees_what_is_freed_again():
    assert 95 < peak_mib(lambda: np.ones(100 * 2**17).sum()) < 120
