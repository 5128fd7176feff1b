"""Times rivals so that none is favoured by the order, a warm L2, Python or another program.

- Every round has an order of its own.
- Each call takes the next of several copies of its operands, too many to fit into the L2 of a GPU together.
- Short calls are queued behind a wait on the GPU, so that none waits for Python; whether the wait was long enough is
  checked each time.
- A canary, the same matrix product before and after each round, tells whether something else ran meanwhile.
"""

import random
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

TURN_MS = 5.  # how long a turn of a short function is about
MOST_CALLS = 100  # a GPU queues about a thousand launches
SHORT_MS = 1.  # for longer calls, the time that Python takes does not matter
SLOW_MS, SLOW_ROUNDS = 300., 2  # on a GPU, longer calls have few turns: its time may be lent
TRIES = 4  # how often a turn whose calls came too late is repeated, with a longer wait for fewer calls
CLOCK_HZ = 3.0e9  # no GPU runs faster: a wait is never shorter than asked for
CANARY_SIZE = {'cuda': 2048, 'cpu': 256}

Call = Callable[[int], object]


class Rounds(NamedTuple):
    """What was measured.

    Attributes:
        ms: By name, the milliseconds of a call in each round.
        canary: By round, the canary's time divided by the least of all rounds.
        queued: The names whose calls were all queued before the GPU began with them, in every round.
    """
    ms: dict[str, list[float]]
    canary: list[float]
    queued: list[str]

    @property
    def is_disturbed(self) -> bool:
        """Whether in half of the rounds the canary took a tenth longer than at best."""
        return statistics.median(self.canary) > 1.1


def copies_for(operand_bytes: int, device: str) -> int:
    """Returns how many copies of operands take twice the L2; 1 on a CPU, and 16 at most."""
    if device != 'cuda':
        return 1
    l2 = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    return max(1, min(16, -(-2 * l2 // operand_bytes)))


def time_rounds(functions: dict[str, Call], device: str, rounds: int, seed: int = 0) -> Rounds:
    """Times functions in rounds.

    Args:
        functions: What to time, by name; each gets the number of the call, by which it chooses its operands; -1 asks
            for the last ones.
        device: ``'cuda'`` or ``'cpu'``.
        rounds: How often each has its turn.
        seed: The seed of the orders.
    """
    order, canary = random.Random(seed), _canary(device)
    names, ms, checks = list(functions), {name: [] for name in functions}, []
    calls, waits, late, turns = {}, {}, set(), {}
    for name, function in functions.items():
        function(0)
        synchronize(device)
        once, host = _once(function, device)
        calls[name] = max(1, min(MOST_CALLS, int(TURN_MS / max(once, 1e-3))))
        turns[name] = min(rounds, SLOW_ROUNDS) if device == 'cuda' and once > SLOW_MS else rounds
        if device == 'cuda' and once < SHORT_MS:
            waits[name] = 1.5 * host + .1 / calls[name]
    for i in range(rounds):
        order.shuffle(names)
        before = canary()
        for name in [name for name in names if i < turns[name]]:
            turn, in_time = _turn(functions[name], device, calls[name], waits.get(name, 0) * calls[name])
            tries = 1
            while name in waits and not in_time and tries < TRIES:
                calls[name], waits[name], tries = max(1, calls[name] // 2), 2 * waits[name], tries + 1
                turn, in_time = _turn(functions[name], device, calls[name], waits[name] * calls[name])
            ms[name].append(turn)
            if not in_time:
                late.add(name)
        checks.append(max(before, canary()))
    return Rounds(ms, [check / min(checks) for check in checks], [name for name in waits if name not in late])


def _once(function: Call, device: str) -> tuple[float, float]:
    """Returns the milliseconds of a call until its result is there, and until Python has it back."""
    begin = time.perf_counter()
    function(1)
    host = time.perf_counter() - begin
    synchronize(device)
    return (time.perf_counter() - begin) * 1e3, host * 1e3


def _turn(function: Call, device: str, calls: int, wait_ms: float) -> tuple[float, bool]:
    """Returns the mean milliseconds of ``calls`` calls after one untimed; on a GPU, queued behind a wait if any.

    Second, whether the GPU still waited when the last one had been queued.
    """
    function(-1)  # which leaves the operands of the first timed call out of L2
    if device != 'cuda':
        begin = time.perf_counter()
        for i in range(calls):
            function(i)
        return (time.perf_counter() - begin) * 1e3 / calls, False
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    if wait_ms:
        torch.cuda._sleep(int(wait_ms * CLOCK_HZ / 1e3))
    start.record()
    for i in range(calls):
        function(i)
    end.record()
    in_time = not start.query()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / calls, in_time


def _canary(device: str) -> Callable[[], float]:
    a = torch.randn(CANARY_SIZE[device], CANARY_SIZE[device], device=device)

    def measure() -> float:
        return min(_turn(lambda i: a @ a, device, 1, .1)[0] for _ in range(3))

    measure()
    return measure


def synchronize(device: str) -> None:
    """Waits for a GPU; raises what went wrong there, if it can be used no more."""
    if device == 'cuda':
        torch.cuda.synchronize()
