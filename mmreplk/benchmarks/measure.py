"""Time that holds on a noisy machine, memory of a process, and what they were measured with."""

import ctypes
import platform
import re
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from ..ops.tuning import processor

TURN_MS = 5  # how long a turn of a short function is at least


def time_in_turns(functions: dict[str, Callable[[], object]], device: str = 'cpu',
                  rounds: int = 10, clock: Callable[[], float] = time.perf_counter) -> dict[str, list[float]]:
    """Times several functions in turns, A B A B, so that what slows the machine for a while slows all alike.

    Short functions are called several times in a turn, after as many calls untimed, so that the caches and threads that
    the one before has left do not count.

    Args:
        functions: What to time, by name.
        device: ``'cuda'`` or ``'cpu'``: what the functions wait for.
        rounds: Number of turns.
        clock: Seconds on a CPU; ``time.thread_time`` for what computes on the thread that calls, which other programs
            on the machine do not stretch.

    Returns:
        By name, the milliseconds of a call in every round.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    calls = {}
    for name, function in functions.items():
        function()
        calls[name] = 1 + int(TURN_MS / max(_milliseconds(function, device, 1, clock), 1e-3))
    for _ in range(rounds):
        for name, function in functions.items():
            if calls[name] > 1:
                _milliseconds(function, device, calls[name], clock)
            times[name].append(_milliseconds(function, device, calls[name], clock))
    return times


def _milliseconds(function: Callable[[], object], device: str, calls: int, clock: Callable[[], float]) -> float:
    if device != 'cuda':
        begin = clock()
        for _ in range(calls):
            function()
        return (clock() - begin) * 1e3 / calls
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(calls):
        function()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / calls


def resident_mib(field: str = 'VmRSS') -> float:
    """Returns the resident memory of this process in MiB: ``'VmRSS'`` now, ``'VmHWM'`` at most so far."""
    return int(re.search(rf'{field}:\s+(\d+) kB', Path('/proc/self/status').read_text())[1]) / 1024


def peak_mib(function: Callable[[], object], device: str = 'cpu') -> float | None:
    """Calls ``function``; returns by how many MiB memory rose meanwhile at most, None where it cannot be known.

    Args:
        function: What to call.
        device: Whose memory: ``'cuda'``, or ``'cpu'`` for that of this process.
    """
    if device == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    reset = Path('/proc/self/clear_refs')
    if not reset.exists():
        return None
    ctypes.CDLL(None).malloc_trim(0)  # hands back what has been freed
    reset.write_text('5')  # lets the high-water mark of the process begin anew
    before = resident_mib()
    function()
    return resident_mib('VmHWM') - before


def environment(device: str) -> dict[str, str | None]:
    """Returns the device by name, the versions that matter, and the commit of this repository, where there is one.

    Args:
        device: ``'cuda'``, of which the driver's and cuDNN's versions are told too, or ``'cpu'``.
    """
    cpu = f'{processor()}, {torch.get_num_threads()} threads'
    found = dict(device=torch.cuda.get_device_name() if device == 'cuda' else cpu, torch=torch.__version__,
                 triton=_version('triton'), cuda=torch.version.cuda, python=platform.python_version(),
                 commit=_output('git', 'rev-parse', 'HEAD'))
    if device == 'cuda':
        found.update(cudnn=str(torch.backends.cudnn.version()),
                     driver=_output('nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader'))
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    """Returns what ``command`` prints; None if there is no such program or it fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except FileNotFoundError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None
