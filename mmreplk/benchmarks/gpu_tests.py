"""Runs tests in several processes, each in its own share; a test that ends its process takes no other with it.

``python -m mmreplk.benchmarks.gpu_tests FOLDER PATH ...`` runs those that need a GPU. They compile most of the time,
which several processes do at once. After some errors a process can use its GPU no more: so each process stops at the
first failure, and a new one goes on with what is left of its share.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..errors import InputError

MOST_PROCESSES = 8  # which share the memory of a GPU
PYTEST = [sys.executable, '-m', 'pytest', '-o', 'addopts=', '-p', 'no:cacheprovider']
# What ``pytest -v`` says of a test as it ends.
ENDED = re.compile(r'^(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED)\b', re.MULTILINE)


def run_tests(folder: Path, paths: Sequence[str], processes: int, options: Sequence[str] = (),
              say: Callable[[str], None] = print) -> dict[str, str]:
    """Runs the tests below ``paths`` in turns, so that those of a file are spread over all processes.

    Args:
        folder: The root of the tests, to which paths and names are relative.
        paths: Files or folders.
        processes: How many run at once.
        options: Which tests to select, as options of pytest.
        say: Told every line that pytest prints, and ``NAME ERROR`` of a test that ends its process.

    Returns:
        How each ended, by name: ``'PASSED'``, ``'FAILED'``, ``'ERROR'`` or ``'SKIPPED'``.

    Raises:
        InputError: If pytest collects none, with what it says; if it cannot collect some, ``say`` is told.
    """
    call = [*PYTEST, '--rootdir', str(folder), *options]
    found = subprocess.run([*call, '--collect-only', '-q', *paths], cwd=folder, capture_output=True, text=True)
    names = [line for line in found.stdout.splitlines() if '::' in line]
    if not names:
        raise InputError(f'no tests can be collected: {(found.stdout + found.stderr).strip()}')
    if found.returncode != 0:
        say(found.stdout + found.stderr)
    ended: dict[str, str] = {}
    with ThreadPoolExecutor(processes) as pool:
        for part in pool.map(lambda i: _run(call, folder, names[i::processes], say), range(processes)):
            ended.update(part)
    return ended


def _run(call: list[str], folder: Path, names: list[str], say: Callable[[str], None]) -> dict[str, str]:
    ended: dict[str, str] = {}
    while left := [name for name in names if name not in ended]:
        before, line = len(ended), ''
        with subprocess.Popen([*call, '-v', '-x', '--tb=line', *left], cwd=folder, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors='replace') as process:
            for line in process.stdout:
                say(line.rstrip('\n'))
                ended.update(match.groups() for match in ENDED.finditer(line))
        if process.returncode not in (0, 1) or len(ended) == before:
            left = [name for name in names if name not in ended]
            culprit = next((name for name in left if line.startswith(f'{name} ')), left[0]) if left else None
            if culprit:
                ended[culprit] = 'ERROR'
                say(f'{culprit} ERROR, it ended its process with {process.returncode}')
    return ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='the root of the tests')
    parser.add_argument('paths', nargs='+', help='files or folders in it')
    args = parser.parse_args()
    processes = min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
    ended = run_tests(args.folder, args.paths, processes, ['-m', 'gpu'], lambda line: print(line, flush=True))
    sys.exit(any(end in ('FAILED', 'ERROR') for end in ended.values()))


if __name__ == '__main__':
    main()
