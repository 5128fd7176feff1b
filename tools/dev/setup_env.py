"""Sets up a virtual environment with one MM stack and this package. The Makefile runs it; it needs only Python and a
C++ compiler. A finished environment is left alone, an unfinished or outdated one is made again."""

from __future__ import annotations  # an older Python must get as far as the message below

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_TORCH = 'torch==2.13.0'
WHEEL_BUILDER = ROOT / 'tools' / 'dev' / 'mmcv_wheel.py'
LOG = 'setup.log'  # in the environment
PIP = '-m', 'pip', '--disable-pip-version-check'
# MMCV 2.1.0 imports pkg_resources, which later setuptools do not have.
BUILD_TOOLS = ['setuptools<81', 'wheel', 'ninja', 'psutil']


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='folder of the environment')
    parser.add_argument('--stack', choices=['onedl', 'openmmlab'], default='onedl')
    parser.add_argument('--torch', default=DEFAULT_TORCH,
                        help="requirement for PyTorch, for example 'torch==2.11.0+cu130'")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    requirements = ROOT / 'requirements' / f'{args.stack}.txt'
    tests, beside = ROOT / 'requirements' / 'tests.txt', ROOT / 'requirements' / 'torchvision.txt'
    recipe = '\n'.join([sys.version, args.torch, requirements.read_text(), tests.read_text(), beside.read_text(),
                        (ROOT / 'setup.py').read_text(), str(ROOT)])
    stamp, key = args.folder / 'ready', hashlib.sha256(recipe.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == key:
        return
    if sys.version_info < (3, 10):  # noqa: UP036
        sys.exit(f'error: Python 3.10 or newer is needed, this is {sys.version.split()[0]}; name another one with '
                 'PYTHON=...')
    if not any(map(shutil.which, [os.environ.get('CXX', 'c++'), 'g++', 'clang++'])):
        sys.exit('error: a C++ compiler is needed to build MMCV, and neither c++, g++ nor clang++ was found')

    if args.folder.is_dir() and any(args.folder.iterdir()) and not (args.folder / 'pyvenv.cfg').is_file():
        sys.exit(f'error: {args.folder} is not an environment, and making one would remove what is in it: name another '
                 'folder')
    start = time.time()
    say(f'Setting up {args.folder} with the {args.stack} stack, once.')
    shutil.rmtree(args.folder, ignore_errors=True)
    try:
        venv.create(args.folder, with_pip=True)
    except subprocess.CalledProcessError:
        sys.exit('error: this Python cannot make virtual environments with pip (on Debian and Ubuntu: apt install '
                 'python3-venv)')
    python = args.folder.resolve() / ('Scripts' if os.name == 'nt' else 'bin') / 'python'
    mmcv = next(line for line in requirements.read_text().splitlines() if 'mmcv==' in line)

    step(f'[1/5] {args.torch} and build tools', python, 'install', args.torch, *BUILD_TOOLS)
    install_mmcv(python, mmcv, uses_cache=args.torch == DEFAULT_TORCH)
    step('[3/5] MMEngine, MMSegmentation, MMDetection, Triton and test tools', python, 'install',
         '--no-build-isolation', '-r', str(requirements), '-r', str(tests))
    step('[4/5] timm and MMPretrain, in a folder of their own', python, 'install', '--no-build-isolation', '--no-deps',
         '--target', str(args.folder / 'torchvision'), '-r', str(beside))
    step('[5/5] mmreplk itself', python, 'install', '--no-build-isolation', '--no-deps', '-e', str(ROOT))
    if not imports(python, 'mmcv.ops, mmseg, mmdet, mmreplk'):
        sys.exit(f'error: the packages in {args.folder} cannot be imported; the lines above say why')
    stamp.write_text(key)
    say(f'Ready after {(time.time() - start) / 60:.1f} minutes.')


def install_mmcv(python: Path, mmcv: str, uses_cache: bool) -> None:
    """Installs the wheel that ``mmcv_wheel.py`` builds, or lets pip build one, which takes many times longer.

    Args:
        python: Python of the environment.
        mmcv: The requirement to install.
        uses_cache: Whether pip may take a wheel that it built before; it does not know for which PyTorch that was.
    """
    title = f'[2/5] {mmcv} with its ops, built from source unless that was done before'
    status, last_line = run(title, python, WHEEL_BUILDER, mmcv)
    if status == 0:
        wheel = Path(last_line)
        status, last_line = run(f'[2/5] {wheel.name}', python, *PIP, 'install', wheel)
        if status == 0:
            if imports(python, 'mmcv.ops'):
                return
            last_line = 'the wheel that it built cannot be imported'
        wheel.unlink(missing_ok=True)
    say(f'[2/5] the fast way failed: {last_line}')
    minutes, ordinary = max(5, 24 // (os.cpu_count() or 1)), ['install', '--no-build-isolation']
    step(f'[2/5] {mmcv} the ordinary way, about {minutes} minutes unless pip has it', python, *ordinary,
         *([] if uses_cache else ['--no-cache-dir']), mmcv)
    if not imports(python, 'mmcv.ops'):
        step(f'[2/5] {mmcv} again, since the cached one was built for another PyTorch', python, *ordinary, '--no-deps',
             '--force-reinstall', '--no-cache-dir', mmcv)


def step(title: str, python: Path, *pip: str) -> None:
    status, _ = run(title, python, *PIP, *pip)
    if status:
        log = python.parents[1] / LOG
        say('\n'.join(log.read_text(errors='replace').splitlines()[-30:]))
        sys.exit(f'error: this step failed, see {log}; run the same command again to start over')


def run(title: str, python: Path, *arguments: object) -> tuple[int, str]:
    """Runs Python with its output in the environment's log; on a terminal, a line shows the progress.

    Returns:
        The exit status, and the last line of the output.
    """
    say(f'{title} ...')
    # PyTorch finds ninja on this path; without it, it compiles one file after the other.
    path = f'{python.parent}{os.pathsep}{os.environ.get("PATH", "")}'
    env = dict(os.environ, PATH=path, MMCV_WITH_OPS='1', PYTHONUNBUFFERED='1',
               MAX_JOBS=os.environ.get('MAX_JOBS', str(os.cpu_count() or 1)))
    start = time.time()
    with open(python.parents[1] / LOG, 'a+b') as log:
        begin = log.tell()
        process = subprocess.Popen([python, *map(str, arguments)], env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                show_progress(time.time() - start, last_lines(log, begin))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1)
        except KeyboardInterrupt:  # the process got it too, and cleans up
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            raise
        finally:
            process.terminate()
            show_progress()
        last_line = last_lines(log, begin)[-1]
    if process.returncode == 0:
        say(f'{title.split()[0]} done in {(time.time() - start) / 60:.1f} minutes')
    return process.returncode, last_line


def last_lines(log: BinaryIO, begin: int) -> list[str]:
    """Returns the last lines that were written to ``log`` after the position ``begin``, or an empty one."""
    log.seek(max(begin, log.seek(0, os.SEEK_END) - 10_000))
    return log.read().decode(errors='replace').strip().splitlines() or ['']


def show_progress(seconds: float | None = None, lines: Sequence[str] = ()) -> None:
    """On a terminal, writes a line over the last one; without arguments, removes it."""
    if not sys.stdout.isatty():
        return
    # Shows sentences of pip and steps of ninja, not the output of compilers.
    news = next((line.strip() for line in reversed(lines) if re.match(r'\s*([A-Z][a-z]|\[\d)', line)), '')
    line = '' if seconds is None else f'  {int(seconds) // 60}:{int(seconds) % 60:02d}  {news}'
    print('\r\033[K' + line[:shutil.get_terminal_size().columns - 1], end='', flush=True)


def imports(python: Path, modules: str) -> bool:
    return subprocess.run([python, '-W', 'ignore', '-c', f'import {modules}'], cwd=ROOT).returncode == 0


def say(message: str) -> None:
    print(message, flush=True)


if __name__ == '__main__':
    try:
        main(parse_args())
    except KeyboardInterrupt:
        sys.exit('\ninterrupted; run the same command again to start over')
