"""Sets up a virtual environment with one MM stack and this package. The Makefile runs it; it needs only Python and a
C++ compiler. A finished environment is left alone, an unfinished or outdated one is made again."""

from __future__ import annotations  # an older Python must get as far as the message below

import argparse
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_TORCH = 'torch==2.13.0'
WHEEL_BUILDER = ROOT / 'tools' / 'dev' / 'mmcv_wheel.py'
LOG = 'setup.log'  # in the environment
PIP = '-m', 'pip', '--disable-pip-version-check'
# Python compiles the modules that it imports. pip would compile the other ones too, for a third of its time.
INSTALL = 'install', '--no-build-isolation', '--no-compile'
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
    packages = [line for line in requirements.read_text().splitlines() if line and not line.startswith('#')]
    mmcv, *others = sorted(packages, key=lambda line: 'mmcv==' not in line)

    step(f'[1/5] {args.torch} and build tools', python, *INSTALL, args.torch, *BUILD_TOOLS)
    title = f'[2/5] {mmcv} with its ops, built from source unless that was done before, while steps 3 and 4 go on'
    with Job(title, python, WHEEL_BUILDER, mmcv, log='mmcv.log') as build:
        step('[3/5] MMEngine, MMSegmentation, MMDetection, Triton and test tools', python, *INSTALL, *others, '-r',
             tests)
        step('[4/5] timm and MMPretrain, in a folder of their own', python, *INSTALL, '--no-deps', '--target',
             args.folder / 'torchvision', '-r', beside)
        built = build.wait()
    # Python compiles modules when they are first imported. Those of PyTorch take longest, and need nothing else.
    with subprocess.Popen([python, '-W', 'ignore', '-c', 'import torch._dynamo, torch.distributed.optim']):
        install_mmcv(python, mmcv, *built, uses_cache=args.torch == DEFAULT_TORCH)
        step('[5/5] mmreplk itself', python, *INSTALL, '--no-deps', '-e', ROOT)
    if not imports(python, 'mmseg.apis, mmdet.apis, mmreplk.mm, torch._dynamo'):
        sys.exit(f'error: the packages in {args.folder} cannot be imported; the lines above say why')
    stamp.write_text(key)
    say(f'Ready after {(time.time() - start) / 60:.1f} minutes.')


def install_mmcv(python: Path, mmcv: str, status: int, last_line: str, uses_cache: bool) -> None:
    """Installs the wheel that ``mmcv_wheel.py`` has built, or lets pip build one, which takes many times longer.

    Args:
        python: Python of the environment.
        mmcv: The requirement to install.
        status: The exit status of ``mmcv_wheel.py``.
        last_line: What it printed last: the wheel's path or, where the status is not 0, what has failed.
        uses_cache: Whether pip may take a wheel that it built before; it does not know for which PyTorch that was.
    """
    if status == 0:
        wheel = Path(last_line)
        status, last_line = run(f'[2/5] {wheel.name}', python, *PIP, *INSTALL, wheel)
        if status == 0:
            if imports(python, 'mmcv.ops'):
                return
            last_line = 'the wheel that it built cannot be imported'
        wheel.unlink(missing_ok=True)
    say(f'[2/5] the fast way failed: {last_line}')
    minutes = max(5, 24 // (os.cpu_count() or 1))
    step(f'[2/5] {mmcv} the ordinary way, about {minutes} minutes unless pip has it', python, *INSTALL,
         *([] if uses_cache else ['--no-cache-dir']), mmcv)
    if not imports(python, 'mmcv.ops'):
        step(f'[2/5] {mmcv} again, since the cached one was built for another PyTorch', python, *INSTALL, '--no-deps',
             '--force-reinstall', '--no-cache-dir', mmcv)


def step(title: str, python: Path, *pip: object) -> None:
    status, _ = run(title, python, *PIP, *pip)
    if status:
        log = python.parents[1] / LOG
        say('\n'.join(log.read_text(errors='replace').splitlines()[-30:]))
        sys.exit(f'error: this step failed, see {log}; run the same command again to start over')


def run(title: str, python: Path, *arguments: object) -> tuple[int, str]:
    with Job(title, python, *arguments) as job:
        return job.wait()


class Job:
    """Python at work, with its output in a log. It and all that it started end with the block that began it."""

    def __init__(self, title: str, python: Path, *arguments: object, log: str = LOG):
        say(f'{title} ...')
        # PyTorch finds ninja on this path; without it, it compiles one file after the other.
        path = f'{python.parent}{os.pathsep}{os.environ.get("PATH", "")}'
        env = dict(os.environ, PATH=path, MMCV_WITH_OPS='1', PYTHONUNBUFFERED='1',
                   MAX_JOBS=os.environ.get('MAX_JOBS', str(os.cpu_count() or 1)))
        self.title, self.start, self.log = title, time.time(), python.parents[1] / log
        with open(self.log, 'ab') as output:
            self.begin = output.tell()
            self.process = subprocess.Popen([python, *map(str, arguments)], env=env, stdout=output,
                                            stderr=subprocess.STDOUT, start_new_session=True)

    def __enter__(self) -> Job:
        return self

    def wait(self) -> tuple[int, str]:
        """Waits for the end; on a terminal, a line shows the progress.

        Returns:
            The exit status, and the last line of the output.
        """
        while self.process.poll() is None:
            show_progress(time.time() - self.start, last_lines(self.log, self.begin))
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1)
        show_progress()
        if self.process.returncode == 0:
            say(f'{self.title.split()[0]} done in {(time.time() - self.start) / 60:.1f} minutes')
        return self.process.returncode, last_lines(self.log, self.begin)[-1]

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        show_progress()
        if kind is KeyboardInterrupt:  # with time to clean up
            self._send(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        """Sends a signal to the process and all that it started; on Windows, to the process."""
        with contextlib.suppress(OSError):  # it may have ended
            getattr(os, 'killpg', os.kill)(self.process.pid, number)


def last_lines(log: Path, begin: int) -> list[str]:
    """Returns the last lines that were written to ``log`` after the position ``begin``, or an empty one."""
    with open(log, 'rb') as file:
        file.seek(max(begin, file.seek(0, os.SEEK_END) - 10_000))
        return file.read().decode(errors='replace').strip().splitlines() or ['']


def show_progress(seconds: float | None = None, lines: Sequence[str] = ()) -> None:
    """On a terminal, writes a line over the last one; without arguments, removes it."""
    if not sys.stdout.isatty():
        return
    # Shows sentences of pip and steps of ninja, not the output of compilers.
    news = next((line.strip() for line in reversed(lines) if re.match(r'\s*([A-Z][a-z]|\[\d)', line)), '')
    line = '' if seconds is None else f'  {int(seconds) // 60}:{int(seconds) % 60:02d}  {news}'
    print('\r\033[K' + line[:shutil.get_terminal_size().columns - 1], end='', flush=True)


def imports(python: Path, modules: str) -> bool:
    return subprocess.run([python, '-W', 'ignore', '-c', f'import {modules}'], cwd=ROOT,
                          stdout=subprocess.DEVNULL).returncode == 0


def say(message: str) -> None:
    print(message, flush=True)


if __name__ == '__main__':
    for number in (signal.SIGTERM, getattr(signal, 'SIGHUP', signal.SIGTERM)):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores one
            signal.signal(number, lambda *_: sys.exit('ended; run the same command again to start over'))
    try:
        main(parse_args())
    except KeyboardInterrupt:
        sys.exit('\ninterrupted; run the same command again to start over')
