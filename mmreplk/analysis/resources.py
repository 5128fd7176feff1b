"""What a process holds of its machine, as Linux tells."""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import torch


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


def held_resources() -> dict[str, float]:
    """Returns what this process holds: resident memory in MiB, and how many open files, threads and children."""
    tasks = list(Path('/proc/self/task').iterdir())
    return dict(
        memory_mib=resident_mib(),
        files=len(list(Path('/proc/self/fd').iterdir())),
        threads=len(tasks),
        children=sum(len((task / 'children').read_text().split()) for task in tasks))
