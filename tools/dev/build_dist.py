"""Builds the source distribution and, from it, the wheel, and checks their metadata and which files they hold.

Both are made from the files that git tracks or would add, and from nothing else in the checkout.
"""

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path

from packaging.metadata import ExceptionGroup, Metadata  # Python 3.10 has no ExceptionGroup of its own

ROOT = Path(__file__).resolve().parents[2]
BUILD_SDIST = 'import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('out', type=Path, help='folder to write to; older distributions in it are removed')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    files = repository_files()
    sdist, wheel = build(files, args.out.resolve())
    faults = [*differences(sdist.name, files_of_sdist(sdist), files),
              *differences(wheel.name, files_of_wheel(wheel), expected_in_wheel(files)),
              *metadata_faults(metadata_of(wheel), (ROOT / 'README.md').read_text())]
    if faults:
        sys.exit('\n  '.join(['error: these distributions must not be released:', *faults]))
    print(f'{sdist}\n{wheel}')


def repository_files() -> list[str]:
    """Returns the files of the repository, by their paths in it."""
    asked = subprocess.run(['git', 'ls-files', '--cached', '--others', '--exclude-standard'], cwd=ROOT,
                           capture_output=True, text=True)
    if asked.returncode:
        sys.exit(f'error: git must list the files to release, and in {ROOT} it fails: {asked.stderr.strip()}')
    return [file for file in asked.stdout.splitlines() if (ROOT / file).is_file()]


def build(files: Iterable[str], out: Path) -> tuple[Path, Path]:
    """Builds both distributions of ``files`` into ``out``, which is emptied; returns their paths."""
    others = [path.name for path in out.glob('*') if not path.name.endswith(('.whl', '.tar.gz'))]
    if others:
        sys.exit(f'error: {out} would be emptied, and holds {others[0]!r}, which is not a distribution: name another '
                 'folder')
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            target = Path(folder, file)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, target)
        _run('-W', 'ignore', '-c', BUILD_SDIST, str(out), cwd=folder)
    sdist, = out.iterdir()
    _run('-m', 'pip', 'wheel', '-q', '--disable-pip-version-check', '--no-deps', '--no-build-isolation', '-w', str(out),
         str(sdist), cwd=out)
    wheel, = out.glob('*.whl')
    return sdist, wheel


def _run(*arguments: str, cwd: str | Path) -> None:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f'{done.stdout}{done.stderr}error: building failed, as the lines above say')


def files_of_sdist(path: Path) -> list[str]:
    """Returns the files of the repository in a source distribution, without those that setuptools adds."""
    with tarfile.open(path) as archive:
        names = [member.name.partition('/')[2] for member in archive.getmembers() if member.isfile()]
    return [name for name in names if name not in ('PKG-INFO', 'setup.cfg') and '.egg-info/' not in name]


def files_of_wheel(path: Path) -> list[str]:
    """Returns the files that a wheel installs, without its metadata."""
    with zipfile.ZipFile(path) as archive:
        return [name for name in archive.namelist() if '.dist-info/' not in name and not name.endswith('/')]


def metadata_of(wheel: Path) -> bytes:
    """Returns the metadata that a package index would show."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith('.dist-info/METADATA')))


def expected_in_wheel(files: Iterable[str]) -> list[str]:
    """Returns the files that a wheel of ``files`` should install: the package, and in ``.mim`` what MIM looks for."""
    package = [file for file in files if file.startswith('mmreplk/')]
    shipped = [file for file in files
               if file.startswith(('configs/', 'tools/')) and not file.startswith(('tools/dev/', 'tools/demo.py'))]
    return [*package, *(f'mmreplk/.mim/{file}' for file in [*shipped, 'model-index.yml'])]


def differences(name: str, found: Collection[str], expected: Collection[str]) -> list[str]:
    """Returns sentences that say which files a distribution lacks, and which it should not hold."""
    return [*(f'{name} lacks {file}' for file in sorted({*expected} - {*found})),
            *(f'{name} holds {file}' for file in sorted({*found} - {*expected}))]


def metadata_faults(metadata: bytes, readme: str) -> list[str]:
    """Returns sentences that say what is wrong with metadata, or that its description is not the README."""
    try:
        read = Metadata.from_email(metadata, validate=True)
    except ExceptionGroup as group:
        return [str(error) for error in group.exceptions]
    faults = []
    if not read.description_content_type or not read.description_content_type.startswith('text/markdown'):
        faults.append(f'the description must be text/markdown, the metadata says {read.description_content_type}')
    if (read.description or '').split() != readme.split():
        faults.append('the description is not the README')
    return faults


if __name__ == '__main__':
    main(parse_args())
