"""What MMEngine has kept of a training run in its work directory."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError

Curve = list[tuple[int, float]]  # values after iterations
STAMP = re.compile(r'^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - mmengine', re.MULTILINE)
ENVIRONMENT = re.compile(r'^System environment:\n(.*?)^-{20,}$', re.MULTILINE | re.DOTALL)
BUILD_SETTINGS = re.compile(r'^ *- Build settings:.*\n', re.MULTILINE)  # of PyTorch: flags, and paths of its makers


class History(NamedTuple):
    """A run, with all the times that it was resumed."""
    config: Path  # the config that was trained with, as MMEngine wrote it out
    training: dict[str, Curve]  # by name
    validation: dict[str, Curve]
    environment: str  # as MMEngine logs it at the beginning of the last start
    starts: int
    seconds: float  # from the first to the last line of each log, added up


def read_history(work_dir: str | Path) -> History:
    """Reads the scalars, the config and the log of a training run.

    If a run was resumed, what it had logged after the iteration that it went on from is left out.

    Args:
        work_dir: A work directory of MMEngine, with ``LocalVisBackend`` among the config's ``vis_backends``.

    Raises:
        InputError: If there is no such directory, or no training in it.
    """
    work_dir = Path(work_dir)
    configs = sorted(work_dir.glob('*.py'), key=lambda path: path.stat().st_mtime)
    logged = sorted(path for path in work_dir.glob('*/vis_data/scalars.json') if _has_training(path))
    if not configs or not logged:
        raise InputError(f'{str(work_dir)!r} holds no training run: a config (*.py) and a */vis_data/scalars.json with '
                         'losses, which MMEngine writes, were expected')
    training, validation = {}, {}
    for path in logged:
        _add(path, training, validation)
    logs = [log.read_text(errors='replace') for path in logged for log in path.parents[1].glob('*.log')]
    environments = [match[1] for log in logs for match in ENVIRONMENT.finditer(log)]
    return History(
        config=configs[-1],
        training=training,
        validation=validation,
        environment=BUILD_SETTINGS.sub('', environments[-1]) if environments else '',
        starts=len(logged),
        seconds=sum(map(_seconds, logs)))


def _records(path: Path) -> list[dict]:
    """Reads the whole lines; a killed run can leave half a line at the end."""
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def _has_training(path: Path) -> bool:
    return any('loss' in record for record in _records(path))


def _add(path: Path, training: dict, validation: dict) -> None:
    """Adds the scalars of one start, which goes on from where its first record says."""
    records = _records(path)
    first = next(record['step'] for record in records if 'loss' in record)
    for curves in (training, validation):
        for name, curve in curves.items():
            curves[name] = [point for point in curve if point[0] < first]
    now = first - 1
    for record in records:
        if 'loss' in record:
            now = record['step']
        # A validation's own step counts epochs or iterations, as the config says; a training record's, iterations only.
        curves = training if 'loss' in record else validation
        for name, value in record.items():
            if name not in ('step', 'iter', 'epoch') and isinstance(value, (int, float)):
                curves.setdefault(name, []).append((now, value))


def _seconds(log: str) -> float:
    stamps = [datetime.strptime(stamp, '%Y/%m/%d %H:%M:%S') for stamp in STAMP.findall(log)]
    return (stamps[-1] - stamps[0]).total_seconds() if stamps else 0.0
