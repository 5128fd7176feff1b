"""The command lines, each in a process of its own, as a user has them."""

import atexit
import gc
import itertools
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, TextIO

import torch

from tests.haste import hasten

ROOT = Path(__file__).parents[2]
SECONDS = 600

# A process that has imported the frameworks, no more, from which others are forked.
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(
    ['mmreplk.mm', 'torch._dynamo', *(f'{framework}.{part}' for framework in ('mmseg', 'mmdet')
                                      for part in ('datasets', 'engine', 'evaluation', 'models', 'visualization'))])


def command(name: str, *arguments: object, **environment: str) -> CompletedProcess:
    """Runs ``tools/<name>`` in a new process; returns it, finished, with its output as text."""
    env = dict(os.environ, PYTHON=sys.executable, **environment)
    head = [str(ROOT / 'tools' / name)] if name.endswith('.sh') else [sys.executable, f'tools/{name}']
    return subprocess.run([*head, *map(str, arguments)], cwd=ROOT, env=env, capture_output=True, text=True,
                          timeout=SECONDS)


def tool(name: str, *arguments: object, **environment: str) -> CompletedProcess:
    """Does the same ten seconds faster: in a fork of a process that has imported the frameworks, and hastened."""
    if torch.cuda.is_available():  # which a process that is forked cannot use
        return command(name, *arguments, **environment)
    argv = [f'tools/{name}', *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        streams = Path(folder, 'stdout'), Path(folder, 'stderr')
        process = _start(argv, streams, dict(os.environ, **environment))
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(argv, SECONDS)
        output, errors = (stream.read_text() for stream in streams)
    return CompletedProcess(argv, process.exitcode, output, errors)


class Forked:
    """Stands in for ``subprocess.Popen`` of ``[env NAME=VALUE ...] python (SCRIPT | -m MODULE | -c CODE) ...``.

    It is forked as by :func:`tool`, and stays in the session of its server whatever is asked.
    """

    def __init__(self, words: Sequence[str], stdout: TextIO, stderr: int, cwd: Path = ROOT,
                 env: Mapping[str, str] = os.environ, start_new_session: bool = False):
        words = words[words[0] == 'env':]
        changes = dict(word.split('=', 1) for word in itertools.takewhile(lambda word: '=' in word, words))
        python, *argv = words[len(changes):]
        assert python == sys.executable and stderr == subprocess.STDOUT and cwd == ROOT
        self._process = _start(argv, (Path(stdout.name), ) * 2, {**env, **changes})
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float = SECONDS) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired('a forked process', timeout)
        return self.returncode


def forked(words: list[str], run: Callable = subprocess.run, **options: Any) -> CompletedProcess:
    """Stands in for ``subprocess.run``: what are tools of ours is forked."""
    if words[0] != sys.executable or not words[1].startswith(f'{ROOT}/tools/') or torch.cuda.is_available():
        return run(words, **options)
    return CompletedProcess(words, Forked(words, **options).wait())


def _start(argv: list[str], streams: tuple[Path, Path], environment: Mapping[str, str]) -> BaseProcess:
    process = SERVER.Process(target=_run, args=(argv, streams, dict(environment)))
    process.start()
    return process


def _run(argv: list[str], streams: tuple[Path, Path], environment: dict[str, str]) -> None:
    gc.freeze()  # what has been imported is there for good
    hasten()
    for name, path in zip(('stdout', 'stderr'), streams, strict=True):
        with open(path, 'ab') as file:
            os.dup2(file.fileno(), getattr(sys, name).fileno())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    try:
        if argv[0] == '-c':
            exec(argv[1], {'__name__': '__main__'})
        elif argv[0] == '-m':
            sys.argv = argv[1:]
            runpy.run_module(argv[1], run_name='__main__', alter_sys=True)
        else:
            sys.argv, sys.path[0] = argv, str(Path(argv[0]).parent.resolve())
            runpy.run_path(argv[0], run_name='__main__')
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
