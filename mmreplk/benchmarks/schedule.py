"""Runs commands one after the other within a given time; none can stop the others or use up their time."""

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..io import write_json

LEAST_SECONDS = 10.  # a part with less is not begun: so long may PyTorch take to start
GRACE_SECONDS = 2.  # between being asked and being made to stop
STATE = 'parts.json'


class Part(NamedTuple):
    """A command that writes its results as it finds them.

    Attributes:
        name: The name of the part, and of its log.
        command: What to run.
        share: Its share of the time, relative to the others'; time that is left goes to the parts after it.
    """
    name: str
    command: Sequence[str]
    share: float


def run_parts(parts: Sequence[Part], seconds: float, out: Path, say: Callable[[str], None] = print) -> dict[str, dict]:
    """Runs parts in turn, each in a process group of its own that is ended when its time is up.

    Parts that an earlier call with the same folder finished are not run again; parts that failed or were cut off are.

    Args:
        parts: What to run.
        seconds: The time for all of them.
        out: Folder for the logs ``NAME.log`` and for the state of all parts, written after each.
        say: Told how each part ended.

    Returns:
        By name, ``status`` (``'done'``, ``'failed'``, ``'out of time'`` or ``'not begun'``), ``seconds`` and ``exit``.
    """
    out.mkdir(parents=True, exist_ok=True)
    path, end = out / STATE, time.monotonic() + seconds
    state = _read_state(out)
    waiting = [part for part in parts if state.get(part.name, {}).get('status') != 'done']
    while waiting:
        part, left = waiting[0], end - time.monotonic() - GRACE_SECONDS
        limit = left * part.share / sum(p.share for p in waiting)
        waiting = waiting[1:]
        state[part.name] = _run(part, limit, out) if limit >= LEAST_SECONDS else dict(status='not begun')
        write_json(state, path)
        say('{}: {status}'.format(part.name, **state[part.name]))
    return state


def set_aside(parts: Sequence[Part], out: Path, environment: dict[str, str | None]) -> None:
    """Renames files of parts that will go on, but were begun with something else, such as another commit.

    Figures of two are not mixed then, and those of the first are kept.

    Args:
        parts: The parts that will be run, each with its results in ``NAME.json``.
        out: The folder of :func:`run_parts`.
        environment: What is measured with now. Only what the file has too is compared.
    """
    state = _read_state(out)
    for part in parts:
        path = out / f'{part.name}.json'
        if state.get(part.name, {}).get('status') == 'done' or not path.exists():
            continue
        found = json.loads(path.read_text()).get('environment', {})
        if any(found[key] != value for key, value in environment.items() if key in found):
            numbered = (out / f'{part.name}.{i}.json' for i in itertools.count(1))
            path.rename(next(place for place in numbered if not place.exists()))


def _read_state(out: Path) -> dict[str, dict]:
    path = out / STATE
    return json.loads(path.read_text()) if path.exists() else {}


def _run(part: Part, limit: float, out: Path) -> dict:
    begin = time.monotonic()
    with open(out / f'{part.name}.log', 'w') as log:
        process = subprocess.Popen(part.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            process.wait(limit)
            status = 'done' if process.returncode == 0 else 'failed'
        except subprocess.TimeoutExpired:
            status = 'out of time'
        finally:
            _end_group(process)
    return dict(status=status, seconds=round(time.monotonic() - begin, 1), exit=process.returncode)


def _end_group(process: subprocess.Popen) -> None:
    """Ends a part and all that it has started: asks, and after GRACE_SECONDS kills."""
    for number in signal.SIGTERM, signal.SIGKILL:
        try:
            os.killpg(process.pid, number)
            process.wait(GRACE_SECONDS)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
