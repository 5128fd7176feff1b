"""The command lines, each in a process of its own, as a user has them."""

import atexit
import gc
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess

import torch

ROOT = Path(__file__).parents[2]
SECONDS = 600

# A process that has imported the frameworks, no more, from which others are forked.
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(['mmreplk.mm', *(f'{framework}.{part}' for framework in ('mmseg', 'mmdet')
                                               for part in ('datasets', 'engine', 'models'))])


def command(name: str, *arguments: object, **environment: str) -> CompletedProcess:
    """Runs ``tools/<name>`` in a new process; returns it, finished, with its output as text."""
    env = dict(os.environ, PYTHON=sys.executable, **environment)
    head = [str(ROOT / 'tools' / name)] if name.endswith('.sh') else [sys.executable, f'tools/{name}']
    return subprocess.run([*head, *map(str, arguments)], cwd=ROOT, env=env, capture_output=True, text=True,
                          timeout=SECONDS)


def tool(name: str, *arguments: object) -> CompletedProcess:
    """Does the same five seconds faster: the process is forked from one that has imported the frameworks, no more."""
    if torch.cuda.is_available():  # which a process that is forked cannot use
        return command(name, *arguments)
    argv = [f'tools/{name}', *map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        process = SERVER.Process(target=_run, args=(argv, folder, dict(os.environ)))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(argv, SECONDS)
        output, errors = (Path(folder, stream).read_text() for stream in ('stdout', 'stderr'))
    return CompletedProcess(argv, process.exitcode, output, errors)


def _run(argv: list[str], folder: str, environment: dict[str, str]) -> None:
    gc.freeze()  # the frameworks, for which each dataset of MMEngine would have garbage collected
    for stream in ('stdout', 'stderr'):
        with open(Path(folder, stream), 'wb') as file:
            os.dup2(file.fileno(), getattr(sys, stream).fileno())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv, sys.path[0] = argv, str(Path(argv[0]).parent.resolve())
    try:
        runpy.run_path(argv[0], run_name='__main__')
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
