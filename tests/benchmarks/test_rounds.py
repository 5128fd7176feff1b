"""How rivals are timed, on a CPU; the same code waits for a GPU."""

import itertools
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
    pairs = itertools.pairwise(calls)
    assert all(i in (before + 1, -1) for (name, before), (after, i) in pairs if name == after), 'operands take turns'
    assert {i for _, i in calls} >= {-1, 0, 1}
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


class StandIn:
    """A GPU with a clock of its own in milliseconds: calls take ``host_ms`` to be queued, and ``device_ms`` there."""

    def __init__(self, monkeypatch, host_ms, device_ms, most_queued=1024):
        self.host_ms, self.device_ms, self.most_queued = host_ms, device_ms, most_queued
        self.now = self.free = 0.  # the time of Python, and the time from which on the GPU has nothing to do
        self.log, self.ends = [], []
        gpu = self

        class Event:
            def __init__(self, enable_timing):
                pass

            def record(self):
                gpu.log.append('event')
                self.at = max(gpu.free, gpu.now)

            def query(self):
                return self.at <= gpu.now

            def elapsed_time(self, other):
                return other.at - self.at

        monkeypatch.setattr(torch.cuda, 'Event', Event)
        monkeypatch.setattr(torch.cuda, 'synchronize', self.synchronize)
        monkeypatch.setattr(torch.cuda, '_sleep', self.sleep)
        monkeypatch.setattr(rounds.time, 'perf_counter', lambda: self.now / 1e3)
        monkeypatch.setattr(rounds, '_canary', lambda device: lambda: 1.)

    def synchronize(self):
        self.log.append('synchronize')
        self.now = max(self.now, self.free)

    def sleep(self, cycles):
        self.log.append(cycles)
        self.free = max(self.free, self.now) + cycles / rounds.CLOCK_HZ * 1e3

    def call(self, i):
        self.log.append('call')
        self.now += self.host_ms
        self.ends = [end for end in self.ends if end > self.now]
        if len(self.ends) >= self.most_queued:  # Python waits for a place
            self.now = self.ends[-self.most_queued]
        self.free = max(self.free, self.now) + self.device_ms
        self.ends.append(self.free)


def test_short_calls_on_a_gpu_are_queued_behind_a_wait(monkeypatch):
    """Nothing is timed before the wait, and the wait covers what Python takes."""
    gpu = StandIn(monkeypatch, host_ms=.1, device_ms=.02)
    assert rounds._turn(gpu.call, 'cuda', 3, wait_ms=2) == (pytest.approx(.02), True)
    assert gpu.log == ['call', 'synchronize', 6_000_000, 'event', 'call', 'call', 'call', 'event', 'synchronize']
    assert rounds._turn(gpu.call, 'cuda', 3, wait_ms=.15) == (pytest.approx(.17 / 3), False), 'the wait ends too early'


@pytest.mark.parametrize('host_ms', [.02, .3])
def test_what_is_timed_of_short_calls_is_the_gpu_alone(host_ms, monkeypatch):
    gpu = StandIn(monkeypatch, host_ms, device_ms=.05)
    measured = rounds.time_rounds(dict(a=gpu.call, b=gpu.call), 'cuda', 4)
    assert measured.queued == ['a', 'b']
    assert all(times == pytest.approx([.05] * 4) for times in measured.ms.values())


def test_a_wait_that_was_too_short_is_repeated_longer(monkeypatch):
    """Python is slower from the third call on, and a queue has few places."""
    gpu = StandIn(monkeypatch, host_ms=.02, device_ms=.05, most_queued=30)

    def call(i):
        gpu.host_ms = .02 if gpu.log.count('call') < 2 else .2
        gpu.call(i)

    measured = rounds.time_rounds(dict(a=call), 'cuda', 4)
    assert measured.queued == ['a'] and measured.ms['a'] == pytest.approx([.05] * 4)


def test_calls_that_wait_for_the_gpu_are_not_said_to_be_queued(monkeypatch):
    gpu = StandIn(monkeypatch, host_ms=.1, device_ms=.05)

    def call(i):
        gpu.call(i)
        gpu.synchronize()

    measured = rounds.time_rounds(dict(a=call, b=gpu.call), 'cuda', 2)
    assert measured.queued == ['b']


def test_slow_calls_on_a_gpu_have_few_turns(monkeypatch):
    gpu = StandIn(monkeypatch, host_ms=.1, device_ms=400)
    measured = rounds.time_rounds(dict(a=gpu.call), 'cuda', 5)
    assert measured.ms['a'] == pytest.approx([400] * 2, abs=1) and measured.queued == []
