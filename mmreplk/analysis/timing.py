"""Timing that holds on a noisy machine."""

import statistics
import time
from collections.abc import Callable


def time_in_turns(*functions: Callable[[], object], rounds: int = 10) -> list[float]:
    """Times several functions in turns, A B A B, so that what slows the machine for a while slows all alike.

    Args:
        functions: What to time, each called once beforehand to warm up.
        rounds: Number of turns.

    Returns:
        The median time of each function, in seconds.
    """
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(rounds):
        for function, own in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]
