"""Measures times on a noisy machine and memory of a process, and tells what they were measured with."""

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
    """Times several functions in turns, A B A B, so that anything that slows the machine for a while slows all alike.

    Short functions are called several times in a turn, after as many untimed calls, so that the state in which the
    previous function left caches and threads does not count.

    Args:
        functions: What to time, by name.
        device: Where the functions compute, ``'cuda'`` or ``'cpu'``.
        rounds: Number of turns.
        clock: Returns seconds; used on a CPU only. ``time.thread_time`` ignores other programs on the machine, and
            other threads too.

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
    """Returns the resident memory of this process in MiB: ``'VmRSS'`` now, ``'VmHWM'`` the peak so far."""
    return int(re.search(rf'{field}:\s+(\d+) kB', Path('/proc/self/status').read_text())[1]) / 1024


def peak_mib(function: Callable[[], object], device: str = 'cpu') -> float | None:
    """Calls ``function`` and returns by how many MiB memory rose at its peak; None where that cannot be measured.

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
    reset.write_text('5')  # resets the peak of the process
    before = resident_mib()
    function()
    return resident_mib('VmHWM') - before


def environment(device: str) -> dict[str, str | None]:
    """Returns the device by name, the versions that matter, and the commit of this repository, where there is one.

    Args:
        device: ``'cuda'``, which adds the versions of the driver and of cuDNN, or ``'cpu'``.
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
