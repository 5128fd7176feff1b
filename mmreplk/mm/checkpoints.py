"""MMEngine's checkpoints: written whole or not at all, read without trust, and found again to resume from."""

import logging
import os
import pickle
from pathlib import Path

from mmengine.fileio import register_backend
from mmengine.fileio.backends import LocalBackend
from mmengine.logging import HistoryBuffer, print_log

from ..errors import InputError
from ..io import write_whole
from ..weights.files import allow_types, is_whole


def _statistic(owner: object, name: str) -> object:
    """Replaces ``getattr``, by which pickles name HistoryBuffer's methods; the real one would lead to ``eval``."""
    if owner is not HistoryBuffer or name not in ('current', 'max', 'mean', 'min'):
        raise pickle.UnpicklingError(f'GLOBAL builtins.getattr is not allowed for {name!r} of {owner!r}')
    return getattr(owner, name)


_statistic.__module__, _statistic.__qualname__ = 'builtins', 'getattr'  # the name under which PyTorch finds it

# MMEngine keeps its log history in every checkpoint. OpenMMLab's MMEngine 0.10.7 also reads with PyTorch's default,
# which from 2.6 on refuses types that nobody named as safe.
allow_types([HistoryBuffer, _statistic])


@register_backend('mmreplk.atomic_local')
class AtomicLocalBackend(LocalBackend):
    """Local files that appear whole or not at all: written beside their place, flushed to disk, then renamed.

    ``CheckpointHook(backend_args=dict(backend='mmreplk.atomic_local'))`` makes a full disk, Ctrl-C or a killed process
    leave the checkpoints that were there as they were.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes ``obj`` to ``filepath``, creating its folder; OSError, and nothing changed, if that fails."""
        write_whole(obj, filepath)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Writes the text ``obj`` as :meth:`put` does."""
        write_whole(obj.encode(encoding), filepath)


def find_resumable(work_dir: str, out_dir: str | None = None) -> str | None:
    """Returns the last whole checkpoint that training left in ``work_dir``; None if it left none.

    It is the one that ``last_checkpoint`` names if that is whole; else the newest whole one, with a warning. If there
    are several processes, only one should call this: a shared disk may show each of them something else.

    Args:
        work_dir: The folder of the run.
        out_dir: ``out_dir`` of ``CheckpointHook``, if checkpoints are saved elsewhere.

    Raises:
        InputError: If there are checkpoints, but none of them is whole.
        OSError: If the disk fails to read one, which does not mean that the file is damaged.
    """
    pointer = Path(work_dir, 'last_checkpoint')
    named = pointer.read_text(errors='replace').strip() if pointer.is_file() else None
    folder = Path(out_dir, Path(work_dir).name) if out_dir else Path(work_dir)
    saved = [path for kind in ('iter', 'epoch') for path in folder.glob(f'{kind}_*.pth')]
    saved.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    if named and is_whole(named):
        return named
    for path in filter(is_whole, saved):
        _say(f'{_trouble(named)}: resuming from {path}, the newest checkpoint that is whole.')
        return str(path)
    if saved:
        raise InputError(f'no checkpoint in {folder} is whole: {", ".join(path.name for path in saved)} cannot be '
                         'read to the end. Remove them to begin anew, or name another with --resume FILE')
    _say(f'there is no checkpoint in {folder} to resume from: training starts from the beginning.')
    return None


def last_checkpoint(work_dir: str | Path) -> str:
    """Returns the checkpoint that a training in ``work_dir`` saved last; InputError if it saved none."""
    pointer = Path(work_dir, 'last_checkpoint')
    if not pointer.is_file():
        raise InputError(f'no training has left a checkpoint in {str(work_dir)!r}: train first, or name a checkpoint')
    return pointer.read_text(errors='replace').strip()


def _trouble(named: str | None) -> str:
    if named is None:
        return 'last_checkpoint is missing'
    if os.path.isfile(named):
        return f'checkpoint {named} is damaged'
    return f'last_checkpoint names {named!r}, which is not a file'


def _say(message: str) -> None:
    if os.environ.get('RANK', '0') == '0':
        print_log(message, logger='current', level=logging.WARNING)
