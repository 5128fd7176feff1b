"""Runs one case after the other, each in a process of its own, and judges the outcome."""

import contextlib
import importlib
import os
import resource
import runpy
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from mmengine.config import config
from yapf.yapflib import yapf_api

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_SECONDS = 60
MEMORY_BYTES = 8 << 30
# The right outcomes of a case: refused by one sentence that names the fault; accepted with a warning that names it;
# accepted without harm, which the case proves; accepted since nothing shows the damage.
REFUSED, WARNED, HARMLESS, UNKNOWABLE = RIGHT = 'refused', 'warned', 'harmless', 'unknowable'
# And the wrong ones.
HUNG, CRASHED, EXECUTED, TRACEBACK, UNNAMED, SILENT = (
    'HUNG', 'CRASHED', 'EXECUTED CODE', 'TRACEBACK', 'REFUSED WITHOUT NAMING IT', 'ACCEPTED SILENTLY')


@dataclass(frozen=True)
class Case:
    """A damaged input, and a tool that gets it.

    Attributes:
        name: The kind of damage.
        command: The command line, from the tool's path on.
        named: A refusal or a warning must hold one of these.
        judge: Says, from what the tool printed, whether an accepted input is harmless, unknowable or silent.
    """
    name: str
    command: list[str]
    named: tuple[str, ...]
    judge: Callable[[str], str] = field(default=lambda said: SILENT)


class Sandbox:
    """Where cases run.

    Args:
        work_dir: Folder for inputs and outputs of the cases. It is emptied.
    """

    def __init__(self, work_dir: Path):
        shutil.rmtree(work_dir, ignore_errors=True)
        work_dir.mkdir(parents=True)
        self.work_dir, self.run_dir, self.marker = work_dir, work_dir / 'run', work_dir / 'executed'

    def train(self, config: str, *options: str, tail: tuple[str, ...] = ()) -> list[str]:
        """Returns a command line that trains with ``options`` instead of values of ``config``."""
        return ['tools/train.py', config, '--work-dir', str(self.run_dir), *tail, '--cfg-options', *options]

    def test(self, config: str, checkpoint: Path, *options: str) -> list[str]:
        """Returns a command line that evaluates ``checkpoint``."""
        return ['tools/test.py', config, str(checkpoint), '--work-dir', str(self.run_dir), '--cfg-options', *options]

    def attempt(self, case: Case) -> tuple[str, str]:
        """Runs a case; returns the outcome and what the tool printed."""
        code, said = self.run(case.command)
        if self.marker.exists():
            self.marker.rmdir()
            return EXECUTED, said
        if code is None or code < 0:
            return HUNG if code is None else CRASHED, said
        errors = [line for line in said.splitlines() if line.startswith('error: ')]
        if code == 2 and len(errors) == 1 and 'Traceback' not in said:
            return REFUSED if any(name in errors[0] for name in case.named) else UNNAMED, said
        if code:
            return TRACEBACK, said
        return case.judge(said), said

    def run(self, command: list[str]) -> tuple[int | None, str]:
        """Runs a tool in a fork of this process; returns its exit code, None if it hung, and what it printed."""
        output = self.work_dir / 'output.txt'
        child = os.fork()
        if not child:
            os.setsid()
            _become(command, output)
        code, deadline = None, time.time() + TIMEOUT_SECONDS
        while code is None and time.time() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if done else None
            time.sleep(.01)
        with contextlib.suppress(ProcessLookupError):  # with the workers that it may have left
            os.killpg(child, signal.SIGKILL)
        if code is None:
            os.waitpid(child, 0)
        return code, output.read_text(errors='replace').strip()


def warm_up() -> None:
    """Imports what every case would import, and turns off steps that take a second each and are tested elsewhere."""
    warnings.simplefilter('ignore')
    for name in ('mmdet.datasets', 'mmdet.models', 'mmseg.datasets', 'mmseg.models', 'torch._dynamo'):
        importlib.import_module(name)
    torch.set_num_threads(1)

    def as_it_is(text: str, **_) -> tuple[str, bool]:
        return text, False

    yapf_api.FormatCode = config.FormatCode = as_it_is  # formats configs in logs


def _become(command: list[str], output: Path) -> None:
    """Turns this process into a tool, as if it had been started from a shell."""
    code = 1
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = (open(stream, 'w', buffering=1) for stream in (1, 2))  # noqa: SIM115  # once and for all
        os.chdir(ROOT)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        sys.argv = command
        runpy.run_path(command[0], run_name='__main__')
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1 if ending.code else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
