"""Python processes that begin with what takes long already imported: forks of one that has imported it."""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
IMPORTED = dict(torch=['torch.distributed.optim'], frameworks=['mmreplk.mm', 'torch._dynamo', *(
    f'{framework}.{part}' for framework in ('mmseg', 'mmdet')
    for part in ('datasets', 'engine', 'evaluation', 'models', 'visualization'))])


@functools.cache
def python(kind: str) -> str:
    """Returns an executable that does what Python does with ``[-u] [-W ACTION] (SCRIPT | -m MODULE | -c CODE) ...``.

    Args:
        kind: What is imported before: ``'torch'``, or ``'frameworks'``, where processes are hastened too.
    """
    if torch.cuda.is_available():  # which a process that is forked cannot use
        return sys.executable
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    base = sys.executable if kind == 'torch' else python('torch')
    server = subprocess.Popen([base, '-m', 'tests.warm', kind, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              cwd=ROOT, start_new_session=True)
    atexit.register(server.stdin.close)  # which ends it
    assert server.stdout.readline() == b'ready\n'
    executable, client = folder / 'bin/python', Path(__file__).with_name('warm_client.py')
    executable.parent.mkdir()  # frameworks take what lies beside this folder for Python's own
    executable.write_text(f'#!/bin/sh\nexec "{sys.executable}" -SE "{client}" "{folder}/socket" "$0" "$@"\n')
    executable.chmod(0o700)
    return str(executable)


def serve(kind: str, folder: str) -> None:
    """Runs command lines in forks until the standard input is closed."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f'{folder}/socket')
    listener.listen(64)
    print('ready', flush=True)
    for module in IMPORTED[kind]:
        importlib.import_module(module)
    if kind == 'frameworks':
        from tests.haste import hasten
        hasten()
    gc.freeze()  # what has been imported is there for good: collections of garbage need not look at it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while sys.stdin not in select.select([sys.stdin, listener], [], [])[0]:
        connection = listener.accept()[0]
        if os.fork() == 0:
            listener.close()
            _attend(connection)
        connection.close()


def _attend(connection: socket.socket) -> None:
    """Runs one command line in a fork of this process and tells how it ends; it is killed if nobody waits any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, _, _ = socket.recv_fds(connection, 2**20, 3)
    with connection.makefile('rb') as rest:
        request += b'' if request.endswith(b'\n') else rest.readline()
    pid = os.fork()
    if pid == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        _run(**json.loads(request))
    connection.sendall(b'%d\n' % pid)
    ended = os.pidfd_open(pid)
    if ended not in select.select([ended, connection], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        connection.sendall(b'%d\n' % code)
    os._exit(0)


def _run(executable: str, argv: list[str], cwd: str, environment: dict[str, str]) -> None:
    """Does in this process, to its end, what Python does with a command line."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.executable = executable
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    code = 0
    try:
        _execute(argv)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)


def _execute(argv: list[str]) -> None:
    while argv[0] in ('-u', '-W'):
        if argv.pop(0) == '-u':
            sys.stdout.reconfigure(write_through=True)
        else:
            warnings.simplefilter(argv.pop(0))
    first, rest = ('', argv[1:]) if argv[0] in ('-c', '-m') else (str(Path(argv[0]).parent.resolve()), argv)
    paths = [path for path in os.environ.get('PYTHONPATH', '').split(os.pathsep) if path]
    sys.path[:] = [first, *paths, *(path for path in sys.path[1:] if path not in paths)]
    if argv[0] == '-c':
        sys.argv = ['-c', *argv[2:]]
        exec(compile(argv[1], '<string>', 'exec'), dict(__name__='__main__'))
    elif argv[0] == '-m':
        sys.argv = rest
        runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
    else:
        sys.argv = argv
        runpy.run_path(argv[0], run_name='__main__')


if __name__ == '__main__':
    serve(*sys.argv[1:])
