"""What is fastest on this machine: measured once for a class of problems, if asked, and remembered on disk.

Off by default, since ways differ in rounding and a measurement in the load of the machine: two runs would not end with
the same bits. ``MMREPLK_AUTOTUNE=1`` turns it on; the answers go into ``$MMREPLK_CACHE``, by default
``~/.cache/mmreplk``, one JSON file for each name of a processor or GPU. If the folder cannot be read or written, or a
file is not JSON, a line is logged and the run goes on without the answers of other runs.
"""

import contextlib
import functools
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

ROUNDS = 3
# What one turn of a short function takes at least, in seconds.
TURN = 1e-3
_known: dict[Path, dict[str, str]] = {}


def is_enabled() -> bool:
    """Whether the user asked for measurements."""
    return os.environ.get('MMREPLK_AUTOTUNE') == '1'


def fastest(device: str, question: str, default: str, candidates: Mapping[str, Callable[[], object]],
            measure: Callable[[Callable[[], object]], float] | None = None) -> str:
    """Returns the name of the candidate that takes least time: from memory, from disk, or by measuring.

    Args:
        device: Name of the processor or GPU, to which answers belong.
        question: What the answer depends on.
        default: The candidate to return where none can be measured.
        candidates: What to run, by name. One that raises RuntimeError, as without enough memory, is skipped.
        measure: Returns the time of a call, infinity for a candidate that cannot run; by default :func:`seconds`.
    """
    answers = _answers(_path(device))
    # What an older version wrote may no longer be a candidate.
    if remembered(device, question) not in candidates:
        measured = {name: _time(run, measure or seconds) for name, run in candidates.items()}
        best = min(measured, key=measured.get)
        remember(device, question, best if measured[best] < float('inf') else default)
    return answers[question]


def remembered(device: str, question: str) -> str | None:
    """Returns the answer that was found before, in this process or in another one; None if there is none."""
    return _answers(_path(device)).get(question)


def remember(device: str, question: str, answer: str) -> None:
    """Keeps an answer, also one that was found in another way than by :func:`fastest`."""
    _answers(_path(device))[question] = answer
    _remember(_path(device), {question: answer})


def folder() -> Path:
    """Returns where answers are kept, and what is compiled for this machine."""
    return Path(os.environ.get('MMREPLK_CACHE', '~/.cache/mmreplk')).expanduser()


def size_class(extent: int) -> int:
    """Returns ``extent`` rounded down to three binary digits, so that inputs of many sizes are a few questions."""
    unit = 1 << max(0, extent.bit_length() - 3)
    return extent // unit * unit


@functools.cache
def processor() -> str:
    """Returns the name of the processor, with the instruction set that PyTorch uses."""
    import torch
    name = getattr(torch.cpu, 'get_capabilities', dict)().get('cpu_name') or _processor_of_the_system()
    return f'{name} {torch.backends.cpu.get_cpu_capability()}'


def seconds(run: Callable[[], object]) -> float:
    """Returns how long ``run`` takes on a CPU, the least of ROUNDS turns, after one untimed call."""
    run()
    calls = 1 + int(TURN / max(_seconds(run, 1), 1e-6))
    return min(_seconds(run, calls) for _ in range(ROUNDS))


def _seconds(run: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begin) / calls


def _time(run: Callable[[], object], measure: Callable[[Callable[[], object]], float]) -> float:
    try:
        return measure(run)
    except RuntimeError:  # PyTorch's when memory is short, on CPUs and GPUs
        return float('inf')


def _processor_of_the_system() -> str:
    with contextlib.suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()


def _path(device: str) -> Path:
    name = ''.join(c if c.isalnum() or c in '-.' else '_' for c in device)
    return folder() / f'{name}.json'


def _answers(path: Path) -> dict[str, str]:
    """Returns the answers that this process knows, of all its threads."""
    if path not in _known:
        _known.setdefault(path, _read(path))  # of threads that read at once, the first one's
    return _known[path]


def _read(path: Path) -> dict[str, str]:
    try:
        answers = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log_once(f'earlier results of tuning cannot be read from {path}: {error}')
        return {}
    return answers if isinstance(answers, dict) else {}


def _remember(path: Path, answers: dict[str, str]) -> None:
    """Adds to the file, which other processes, threads and machines write too: none reads half of it or loses a line.

    Without locks on this system, the last of two that write at once wins.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path):
            descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f'{path.stem}.', suffix='.part')
            try:
                with os.fdopen(descriptor, 'w') as file:
                    json.dump(_read(path) | answers, file, indent=1, sort_keys=True)
                os.replace(unfinished, path)
            except BaseException:
                Path(unfinished).unlink(missing_ok=True)
                raise
    except OSError as error:
        _log_once(f'results of tuning are not kept for the next run: {error}')


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for others that write ``path``, but not for one that died: the system gives up a lock with its process."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(path.with_suffix('.lock'), 'w') as file:
        with contextlib.suppress(OSError):  # some shared file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def _log_once(message: str) -> None:
    logging.getLogger('mmreplk').warning(message)
