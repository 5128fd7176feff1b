"""How a command ends: a result, or one sentence and an exit code."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.logging import MMLogger

from ..errors import InputError
from .config_errors import DISK_FULL

REPEAT_SECONDS = 5  # after which Ctrl-C comes again


def run(command: Callable[[], None], work_dir: Callable[[], str | None] | None = None) -> None:
    """Runs ``command``; what the user can mend ends it with a sentence instead of a traceback.

    Args:
        command: The whole of a tool.
        work_dir: Of training: returns where checkpoints are, once known, to say which one an interrupted run goes on
            from.

    Raises:
        SystemExit: With 2 for input that cannot be used, 1 for a full disk, 130 for Ctrl-C.
    """
    try:
        with _insistent_interrupt():
            command()
    except InputError as error:
        # One that was raised by a worker of a data loader comes with the worker's traceback before it.
        sentence = str(error).rpartition(f'{InputError.__module__}.{InputError.__name__}: ')[2].strip()
        log = _keep_traceback(error)
        _exit(2, f'error: {sentence}' + (f' (the traceback is in {log})' if log else ''))
    except KeyboardInterrupt:
        _exit(130, ' '.join(['interrupted.', *_last_checkpoint(work_dir)]))
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        _exit(1, ' '.join([f'error: the disk is full ({error}).', *_last_checkpoint(work_dir)]))


@contextmanager
def _insistent_interrupt() -> Iterator[None]:
    """Lets Ctrl-C end what it interrupts even if that catches everything, as MMEngine does while it formats configs."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or not hasattr(signal, 'setitimer'):
        yield
        return
    came = False

    def interrupt(*_) -> None:
        nonlocal came
        came = True
        signal.setitimer(signal.ITIMER_REAL, REPEAT_SECONDS)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield
    except Exception as error:
        if came:
            raise KeyboardInterrupt from error  # somebody made another error of it
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _keep_traceback(error: InputError) -> str | None:
    """Writes where ``error`` came from into the log of the run, and returns its path; None if there is none.

    Only of an error that stands for another one, which may be a mistake in somebody's code.
    """
    files = [handler for handler in MMLogger.get_current_instance().handlers
             if isinstance(handler, logging.FileHandler)]  # yapf: disable
    if error.__cause__ is None or not files:
        return None
    trace = (type(error), error, error.__traceback__)
    files[0].handle(logging.LogRecord('mmreplk', logging.ERROR, '', 0, str(error), None, trace))
    return files[0].baseFilename


def _exit(code: int, message: str) -> None:
    print(message, file=sys.stderr, flush=True)
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
