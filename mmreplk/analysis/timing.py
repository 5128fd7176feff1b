"""Timing that holds on a noisy machine."""

import time
from collections.abc import Callable

import torch

TURN_MS = 5  # how long a turn of a short function is at least


def time_in_turns(functions: dict[str, Callable[[], object]], device: str = 'cpu',
                  rounds: int = 10) -> dict[str, list[float]]:
    """Times several functions in turns, A B A B, so that what slows the machine for a while slows all alike.

    Short functions are called several times in a turn, after as many calls untimed, so that the caches and threads that
    the one before has left do not count.

    Args:
        functions: What to time, by name.
        device: ``'cuda'`` or ``'cpu'``: what the functions wait for.
        rounds: Number of turns.

    Returns:
        By name, the milliseconds of a call in every round.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    calls = {}
    for name, function in functions.items():
        function()
        calls[name] = 1 + int(TURN_MS / max(_milliseconds(function, device, 1), 1e-3))
    for _ in range(rounds):
        for name, function in functions.items():
            if calls[name] > 1:
                _milliseconds(function, device, calls[name])
            times[name].append(_milliseconds(function, device, calls[name]))
    return times


def _milliseconds(function: Callable[[], object], device: str, calls: int) -> float:
    if device != 'cuda':
        begin = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - begin) * 1e3 / calls
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(calls):
        function()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / calls
