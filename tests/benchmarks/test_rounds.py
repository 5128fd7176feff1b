"""How rivals are timed, on a CPU; the same code waits for a GPU."""

import time
from types import SimpleNamespace

import pytest
import torch

from mmreplk.benchmarks import rounds


def test_every_round_has_an_order_of_its_own_and_calls_are_numbered():
    calls = []

    def work(name, i, seconds):
        calls.append((name, i))
        time.sleep(seconds)

    functions = {name: lambda i, name=name: work(name, i, .001) for name in 'abcd'}
    measured = rounds.time_rounds(functions, 'cpu', rounds=8)
    turns = [name for (name, _), (before, _) in zip(calls[1:], calls, strict=False) if name != before]
    orders = {tuple(turns[i:i + 4]) for i in range(3, len(turns) - 3, 4)}
    assert len(orders) > 1, 'the order changes'
    assert {i for _, i in calls} >= {0, 1, 2}, 'calls of a turn take operands in turn'
    assert all(len(times) == 8 and min(times) >= 1 for times in measured.ms.values())
    assert len(measured.canary) == 8 and min(measured.canary) == 1 and not measured.queued


@pytest.mark.parametrize('slow, disturbed', [(2, False), (6, True)])
def test_a_canary_tells_that_something_else_runs(slow, disturbed, monkeypatch):
    """It is slow in some of eight rounds, before or after."""
    times = iter([1.0] * 2 * (8 - slow) + [1.0, 1.5] * slow)
    monkeypatch.setattr(rounds, '_canary', lambda device: lambda: next(times))
    assert rounds.time_rounds(dict(a=lambda i: None), 'cpu', 8).is_disturbed == disturbed


@pytest.mark.parametrize('mib, copies', [(1, 16), (10, 10), (200, 1)])
def test_copies_do_not_fit_into_l2_together(mib, copies, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda i: SimpleNamespace(L2_cache_size=50 * 2**20))
    assert rounds.copies_for(mib * 2**20, 'cuda') == copies
    assert rounds.copies_for(mib * 2**20, 'cpu') == 1


def test_short_calls_on_a_gpu_are_queued_behind_a_wait(monkeypatch):
    """With a stand-in for the GPU: nothing is timed before the wait, and the wait covers what Python takes."""
    log = []

    class Event:
        def __init__(self, enable_timing):
            pass

        def record(self):
            log.append('event')

        def elapsed_time(self, other):
            return 10.

    monkeypatch.setattr(torch.cuda, 'Event', Event)
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: log.append('synchronize'))
    monkeypatch.setattr(torch.cuda, '_sleep', lambda cycles: log.append(cycles))
    assert rounds._turn(lambda i: log.append('call'), 'cuda', 3, wait_ms=2) == pytest.approx(10 / 3)
    assert log == ['call', 'synchronize', 4_000_000, 'event', 'call', 'call', 'call', 'event', 'synchronize']
