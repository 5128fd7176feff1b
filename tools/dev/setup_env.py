"""Sets up a virtual environment with one MM stack and this package. Run by the Makefile; needs only Python and a C++
compiler. A finished environment is left alone, an unfinished or outdated one is made anew."""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_TORCH = 'torch==2.13.0'
# The oldest MMCV imports pkg_resources, which later setuptools lack.
BUILD_TOOLS = ['setuptools<81', 'wheel', 'ninja', 'psutil']


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='the environment')
    parser.add_argument('--stack', choices=['onedl', 'openmmlab'], default='onedl')
    parser.add_argument('--torch', default=DEFAULT_TORCH, help="requirement, for example 'torch==2.11.0+cu130'")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    requirements = ROOT / 'requirements' / f'{args.stack}.txt'
    tests = ROOT / 'requirements' / 'tests.txt'
    recipe = '\n'.join([sys.version, args.torch, requirements.read_text(), tests.read_text(),
                        (ROOT / 'setup.py').read_text(), str(ROOT)])
    stamp, key = args.folder / 'ready', hashlib.sha256(recipe.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == key:
        return
    if sys.version_info < (3, 10):  # noqa: UP036  the one file that an older Python may be asked to run
        sys.exit(f'error: Python 3.10 or newer is needed, this is {sys.version.split()[0]}; name another one with '
                 'PYTHON=...')
    if not any(map(shutil.which, [os.environ.get('CXX', 'c++'), 'g++', 'clang++'])):
        sys.exit('error: a C++ compiler is needed to build MMCV, and neither c++, g++ nor clang++ was found')

    start = time.time()
    say(f'Setting up {args.folder} with the {args.stack} stack, once.')
    shutil.rmtree(args.folder, ignore_errors=True)
    try:
        venv.create(args.folder, with_pip=True)
    except subprocess.CalledProcessError:
        sys.exit('error: this Python cannot make virtual environments with pip (on Debian and Ubuntu: apt install '
                 'python3-venv)')
    python = args.folder / ('Scripts' if os.name == 'nt' else 'bin') / 'python'
    mmcv = next(line for line in requirements.read_text().splitlines() if 'mmcv==' in line)
    # MMCV is built against one PyTorch: pip's cache of built wheels does not know which, so only the default uses it.
    cache = [] if args.torch == DEFAULT_TORCH else ['--no-cache-dir']

    step(1, f'{args.torch} and build tools', python, 'install', args.torch, *BUILD_TOOLS)
    minutes = max(5, 24 // (os.cpu_count() or 1))
    step(2, f'{mmcv} with its ops: built from source, about {minutes} minutes unless pip has it from an earlier time',
         python, 'install', '--no-build-isolation', *cache, mmcv)
    if not imports(python, 'mmcv.ops'):
        step(2, f'{mmcv} again, since the cached one was built for another PyTorch', python, 'install',
             '--no-build-isolation', '--no-deps', '--force-reinstall', '--no-cache-dir', mmcv)
    step(3, 'MMEngine, MMSegmentation, MMDetection, Triton and test tools', python, 'install', '--no-build-isolation',
         '-r', str(requirements), '-r', str(tests))
    step(4, 'mmreplk itself', python, 'install', '--no-build-isolation', '--no-deps', '-e', str(ROOT))
    if not imports(python, 'mmcv.ops, mmseg, mmdet, mmreplk'):
        sys.exit(f'error: the packages in {args.folder} do not import; the lines above say why')
    stamp.write_text(key)
    say(f'Ready after {(time.time() - start) / 60:.1f} minutes.')


def step(number: int, what: str, python: Path, *pip: str) -> None:
    say(f'[{number}/4] {what} ...')
    start = time.time()
    env = dict(os.environ, MMCV_WITH_OPS='1', MAX_JOBS=os.environ.get('MAX_JOBS', str(os.cpu_count() or 1)))
    result = subprocess.run([python, '-m', 'pip', '--disable-pip-version-check', '-q', *pip], env=env)
    if result.returncode:
        sys.exit(f'error: step {number} failed; run the same command again to start over')
    say(f'[{number}/4] done in {(time.time() - start) / 60:.1f} minutes')


def imports(python: Path, modules: str) -> bool:
    return subprocess.run([python, '-W', 'ignore', '-c', f'import {modules}'], cwd=ROOT).returncode == 0


def say(message: str) -> None:
    print(message, flush=True)


if __name__ == '__main__':
    main(parse_args())
