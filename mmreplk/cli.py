"""What the command lines share: options, and how a command ends: with a result, or one sentence and an exit code."""

import errno
import json
import logging
import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import InputError
from .interrupts import interrupts_between_processes
from .io import DISK_FULL, check_file_place, check_folder_place

# A file where a folder should be, a folder where a file should be, or no permission.
_NO_PLACE = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS)


def run(command: Callable[[], None], work_dir: Callable[[], str | None] | None = None) -> None:
    """Runs ``command``; errors that the user can fix end it with one sentence instead of a traceback.

    Args:
        command: The whole tool, as a function.
        work_dir: For training: returns the folder of checkpoints, or None while it is unknown, so that the last message
            can name the checkpoint from which to resume.

    Raises:
        SystemExit: With 2 if the input or a place to write to cannot be used, 1 for a full disk, 130 for Ctrl-C.
    """
    try:
        with interrupts_between_processes():
            command()
    except InputError as error:
        # The message of an error in a data loader's worker starts with the worker's traceback.
        sentence = str(error).rpartition(f'{InputError.__module__}.{InputError.__name__}: ')[2].strip()
        log = _keep_traceback(error)
        _exit(2, f'error: {sentence}' + (f' (the traceback is in {log})' if log else ''))
    except KeyboardInterrupt:
        _exit(130, ' '.join(['interrupted.', *_last_checkpoint(work_dir)]))
    except OSError as error:
        if error.errno in _NO_PLACE and error.filename is not None:
            _exit(2, f'error: {str(error.filename)!r} cannot be used: {error.strerror}')
        if error.errno not in DISK_FULL:
            raise
        _exit(1, ' '.join([f'error: the disk is full ({error}).', *_last_checkpoint(work_dir)]))


def add_trust_checkpoint(parser: ArgumentParser) -> None:
    """Adds ``--trust-checkpoint``, for :func:`read_checkpoint`."""
    parser.add_argument('--trust-checkpoint', action='store_true',
                        help='read checkpoints even if they can execute code from their sender')


def device(name: str) -> str:
    """Returns ``name`` if PyTorch can use the device of that name, for ``--device``.

    Raises:
        ArgumentTypeError: If it cannot.
    """
    import torch  # takes a second

    try:
        torch.empty(0, device=name)
    # For an unknown name, a backend that PyTorch was built without, and one without kernels, in this order.
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # PyTorch raises these, we do not
        raise ArgumentTypeError(f'{name!r} is not a device that can be used: {str(error).splitlines()[0]}') from error
    return name


def file_to_write(name: str) -> str:
    """Returns ``name`` if a file can be written there, for options: a bad path is reported before any work is done.

    Raises:
        ArgumentTypeError: If none can.
    """
    return _writable(check_file_place, name)


def folder_to_write(name: str) -> str:
    """Returns ``name`` if it is a folder that can be written to, or can be made, for options.

    Raises:
        ArgumentTypeError: If it is not.
    """
    return _writable(check_folder_place, name)


def _writable(check: Callable[[str], None], name: str) -> str:
    try:
        check(name)
    except InputError as error:
        raise ArgumentTypeError(str(error)) from error
    return name


def _keep_traceback(error: InputError) -> str | None:
    """Writes the traceback of ``error`` to the run's log and returns its path; None if nothing is written.

    Only errors with a cause are written: the cause may be a mistake in the user's code.
    """
    log = _log_file()
    if error.__cause__ is None or log is None:
        return None
    trace = (type(error), error, error.__traceback__)
    log.handle(logging.LogRecord('mmreplk', logging.ERROR, '', 0, str(error), None, trace))
    return log.baseFilename


def _log_file() -> logging.FileHandler | None:
    """Returns the first file that the package logs to, directly or through a logger that it passes records to."""
    for handler in logging.getLogger('mmreplk').handlers:
        for one in (handler, *getattr(getattr(handler, 'target', None), 'handlers', ())):
            if isinstance(one, logging.FileHandler) and Path(one.baseFilename).exists():  # a rehearsal's is gone
                return one
    return None


def _exit(code: int, message: str) -> None:
    print(message, file=sys.stderr, flush=True)
    if 'TORCHELASTIC_ERROR_FILE' in os.environ:  # from which torchrun takes the last words of its report
        Path(os.environ['TORCHELASTIC_ERROR_FILE']).write_text(
            json.dumps(dict(message=message, timestamp=int(time.time()))))
    sys.exit(code)


def _last_checkpoint(work_dir: Callable[[], str | None] | None) -> Iterator[str]:
    if work_dir is None:
        return
    folder = work_dir()
    pointer = Path(folder or '', 'last_checkpoint')
    if folder is None or not pointer.is_file():
        yield 'No checkpoint had been saved.'
    else:
        yield f'The last checkpoint, {pointer.read_text().strip()}, is whole: go on from it with --resume.'
