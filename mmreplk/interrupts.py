"""Ctrl-C that is never lost."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType

_PATIENCE = .1  # seconds; starting a process takes a few milliseconds


@contextmanager
def interrupts_between_processes() -> Iterator[None]:
    """Lets Ctrl-C wait while this process is starting another one, such as a worker of a data loader.

    Python drops exceptions that are raised in the callbacks of a fork, so the program would go on. If one is raised
    right after them, the parent does not know the new process yet, which outlives it and waits for work forever.
    """
    if (threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler):
        yield  # other code handles Ctrl-C
        return
    parent, main = os.getpid(), threading.get_ident()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() == parent and _is_starting_a_process(frame):
            threading.Timer(_PATIENCE, signal.pthread_kill, (main, number)).start()
        else:
            signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_starting_a_process(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code is not BaseProcess.start.__code__:
        frame = frame.f_back
    return frame is not None
