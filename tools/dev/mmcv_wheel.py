"""Builds MMCV's wheel for CPUs in a fraction of the usual time, or finds an earlier one; the last line is its path.

Compiling a source file of MMCV spends nearly all of its time on PyTorch's headers. Here the sources compile together,
in two translation units that each read the headers once, and only those that they use. ``setup_env.py`` runs this with
the Python of the environment, which has PyTorch. If it cannot build, it ends with one sentence and status 1.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import torch

SOURCES = Path('mmcv/ops/csrc/pytorch')
KNOWN = 'onedl-mmcv==2.3.6', 'mmcv==2.1.0'
# Names that more than one source of SOURCES/cpu defines, and the sources in which they are renamed.
CLASHES = ('PreCalc', 'add', 'bilinear_interpolate', 'bilinear_interpolate_gradient',
           'pre_calc_for_bilinear_interpolate')
RENAMED = 'roi_align.cpp', 'roi_align_rotated.cpp', 'rotated_feature_align.cpp'
LAST = 'psamask.cpp'  # defines macros named min and max
# These headers are all of PyTorch's C++ interface. The sources use its tensors and their bindings to Python.
HEADERS = 'torch/extension.h', 'torch/script.h'
USED = '#pragma once\n#include <torch/types.h>\n#include <torch/csrc/utils/pybind.h>\n'
# If one of these is set, MMCV builds for something other than CPUs.
SWITCHES = ('FORCE_CUDA', 'FORCE_MLU', 'FORCE_MPS', 'FORCE_MUSA', 'FORCE_NPU', 'MMCV_WITH_DIOPI')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('requirement', help="for example 'mmcv==2.1.0'")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if torch.cuda.is_available() or any(os.environ.get(name, '0') == '1' for name in SWITCHES):
        sys.exit('only builds for CPUs are fast, and this one is for a GPU')
    if args.requirement not in KNOWN:
        sys.exit(f'only {" and ".join(KNOWN)} can be compiled this way, not {args.requirement}')
    name, version = args.requirement.split('==')
    kept = cache_folder()
    found = sorted(kept.glob(f'{name.replace("-", "_")}-{version}-*.whl'))
    if not found:
        with tempfile.TemporaryDirectory() as folder:
            source = unpack_source(args.requirement, Path(folder))
            unite(source)
            pip('wheel', '-v', '--no-deps', '--no-build-isolation', '-w', folder, str(source))
            found = [keep(wheel, kept) for wheel in Path(folder).glob('*.whl')]
    print(found[0])


def cache_folder() -> Path:
    """Returns the folder of wheels for this PyTorch and Python: in pip's cache or, without one, in the environment."""
    asked = subprocess.run([sys.executable, '-m', 'pip', 'cache', 'dir'], capture_output=True, text=True)
    root = Path(asked.stdout.strip() if asked.returncode == 0 else sys.prefix)
    return root / 'mmcv_wheels' / f'torch-{torch.__version__}-{sysconfig.get_config_var("SOABI")}'


def unpack_source(requirement: str, folder: Path) -> Path:
    """Downloads the source distribution that pip would build; returns the folder with its ``setup.py``."""
    pip('download', '--no-deps', '--no-build-isolation', '--no-binary', ':all:', '-d', str(folder), requirement)
    archive, = folder.glob('*.tar.gz')
    shutil.unpack_archive(archive, folder)
    return folder / archive.name.removesuffix('.tar.gz')


def unite(source: Path) -> None:
    """Makes ``setup.py`` compile two files that include the sources, instead of the sources, which are not changed."""
    setup = (source / 'setup.py').read_text()
    for folder in ('united/torch', 'united/cpu'):
        (source / folder).mkdir(parents=True)
    for header in HEADERS:
        (source / 'united' / header).write_text(USED)
    setup = setup.replace('include_dirs = []', f'include_dirs = [{str(source / "united")!r}]')
    for sources, united in ((SOURCES, Path('united')), (SOURCES / 'cpu', Path('united/cpu'))):
        if f"'./{sources}/*.cpp'" not in setup:
            sys.exit(f'setup.py does not take its sources from {sources}/*.cpp')
        setup = setup.replace(f"'./{sources}/*.cpp'", f"'./{united}/*.cpp'")
        lines = ['#include <torch/extension.h>']
        for path in sorted((source / sources).glob('*.cpp'), key=lambda path: (path.name == LAST, path.name)):
            clashes = CLASHES if sources.name == 'cpu' and path.name in RENAMED else ()
            lines += [f'#define {name} {path.stem}_{name}' for name in clashes]
            lines += [f'#include "{path}"']
            lines += [f'#undef {name}' for name in clashes]
        (source / united / 'all.cpp').write_text('\n'.join(lines) + '\n')
    # Leaves out the debug information that Python's own flags ask for: a third of the time and memory.
    setup = setup.replace("['cxx'] = ['-std=c++17']", "['cxx'] = ['-std=c++17', '-g0']")
    (source / 'setup.py').write_text(setup)


def keep(wheel: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f'{wheel.name}.{os.getpid()}'
    shutil.copy(wheel, part)
    return part.replace(folder / wheel.name)


def pip(*arguments: str) -> None:
    command = [sys.executable, '-m', 'pip', '--disable-pip-version-check', *arguments]
    if subprocess.run(command).returncode:
        sys.exit(f'pip {arguments[0]} failed')


if __name__ == '__main__':
    main(parse_args())
