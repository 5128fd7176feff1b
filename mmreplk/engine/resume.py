"""Where an interrupted run goes on."""

import logging
import os
from pathlib import Path

from mmengine.logging import print_log

from ..errors import InputError
from .checkpoints import find_damage


def find_resumable(work_dir: str) -> str | None:
    """Returns the last whole checkpoint that training left in ``work_dir``; None if it left none.

    The one that ``last_checkpoint`` names is taken if it is whole; else the newest whole one, with a warning.

    Raises:
        InputError: If there are checkpoints, but none of them is whole.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    named = pointer.read_text(errors='replace').strip() if pointer.is_file() else None
    saved = [path for kind in ('iter', 'epoch') for path in Path(work_dir).glob(f'{kind}_*.pth')]
    saved.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    if named and is_whole(named):
        return named
    for path in filter(is_whole, saved):
        _say(f'{_trouble(named)}: resuming from {path}, the newest checkpoint that is whole.')
        return str(path)
    if saved:
        raise InputError(f'no checkpoint in {work_dir} is whole: {", ".join(path.name for path in saved)} cannot be '
                         'read to the end. Remove them to begin anew, or name another with --resume FILE')
    _say(f'there is no checkpoint in {work_dir} to resume from: training begins at its beginning.')
    return None


def is_whole(path: str | Path) -> bool:
    """Says whether a checkpoint is there to its last byte and holds what was written; nothing in it is executed."""
    return os.path.isfile(path) and find_damage(path) is None


def _trouble(named: str | None) -> str:
    if named is None:
        return 'last_checkpoint is missing'
    return f'checkpoint {named} is damaged' if os.path.isfile(named) else f'last_checkpoint names {named!r}, no file'


def _say(message: str) -> None:
    if os.environ.get('RANK', '0') == '0':
        print_log(message, logger='current', level=logging.WARNING)
