"""How a command ends: a result, or one sentence and an exit code."""

import errno
import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError


def run(command: Callable[[], None], work_dir: Callable[[], str | None] = lambda: None) -> None:
    """Runs ``command``; what the user can mend ends it with a sentence instead of a traceback.

    Args:
        command: The whole of a tool.
        work_dir: Returns where checkpoints are, once known, to say which one an interrupted run goes on from.

    Raises:
        SystemExit: With 2 for input that cannot be used, 1 for a full disk, 130 for Ctrl-C.
    """
    try:
        command()
    except InputError as error:
        # One that was raised by a worker of a data loader comes with the worker's traceback before it.
        _exit(2, f'error: {str(error).rpartition(f"{InputError.__module__}.{InputError.__name__}: ")[2].strip()}')
    except KeyboardInterrupt:
        _exit(130, f'interrupted. {_last_checkpoint(work_dir())}')
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _exit(1, f'error: the disk is full ({error}). {_last_checkpoint(work_dir())}')


def _exit(code: int, message: str) -> None:
    print(message, file=sys.stderr, flush=True)
    sys.exit(code)


def _last_checkpoint(work_dir: str | None) -> str:
    pointer = Path(work_dir or '', 'last_checkpoint')
    if work_dir is None or not pointer.is_file():
        return 'No checkpoint had been saved.'
    return f'The last checkpoint, {pointer.read_text().strip()}, is whole: go on from it with --resume.'
