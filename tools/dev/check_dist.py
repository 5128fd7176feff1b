"""Installs the built wheel as users do and uses it: beside PyTorch alone, and beside the MM stack of this environment.

Each time a fresh environment gets links to some packages of this one. The source distribution is not tested by itself,
since the wheel is built from it.
"""

import argparse
import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
CONVOLUTION = """
import os, torch, mmreplk
assert os.path.isfile(f'{mmreplk.stand_in_path()}/depthwise_conv2d_implicit_gemm.py')
x, weight = torch.randn(2, 8, 64, 64), torch.randn(8, 1, 31, 31)
expected = torch.nn.functional.conv2d(x.double(), weight.double(), padding=15, groups=8)
assert (mmreplk.depthwise_conv2d(x, weight) - expected).abs().max() < 1e-3 * expected.abs().max()
"""
CONFIG, OTHER_CONFIG = 'upernet_replknet_tiny_miniade20k', 'cascade_mask_rcnn_replknet31b_coco'
SHORT = ['--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=2',
         'default_hooks.checkpoint.interval=2']


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('dist', type=Path, help='folder with one wheel, made by build_dist.py')
    parser.add_argument('--stack', choices=['onedl', 'openmmlab'], default='onedl', help='stack of this environment')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    wheel, = args.dist.resolve().glob('*.whl')
    requirements = (ROOT / 'requirements' / f'{args.stack}.txt').read_text().splitlines()
    stack = [Requirement(line).name for line in requirements if line and not line.startswith('#')]
    with tempfile.TemporaryDirectory() as folder:
        use_with_pytorch_alone(Installed(Path(folder, 'torch'), wheel, ['torch', 'numpy']))
        use_with_stack(Installed(Path(folder, 'stack'), wheel, ['torch', *stack]))


class Installed:
    """A fresh environment with a wheel in it, which pip installs without a package index.

    Args:
        folder: Where the environment is made.
        wheel: The wheel to install.
        others: Names of distributions of this environment to link, with what these require.
    """

    def __init__(self, folder: Path, wheel: Path, others: Iterable[str]):
        self.work = folder / 'work'
        self._python = folder / 'env' / 'bin' / 'python'
        venv.create(folder / 'env', with_pip=True)
        self.work.mkdir()
        self.site = Path(self('-c', 'import sysconfig; print(sysconfig.get_path("purelib"))').strip())
        link(others, self.site)
        self('-m', 'pip', 'install', '-q', '--disable-pip-version-check', '--no-index', str(wheel))

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """Runs Python in an empty folder and returns all that it wrote; ends this program if its exit status is not
        ``status``."""
        start, env = time.time(), {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
        done = subprocess.run([self._python, '-W', 'ignore', *arguments], cwd=self.work, env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        command = ' '.join(['python', *arguments[:4]]).replace('\n', ' ')[:80]
        if done.returncode != status:
            sys.exit(f'{done.stdout}\nerror: {command} ended with {done.returncode} instead of {status}')
        print(f'{self.work.parent.name}: {command} ({time.time() - start:.0f} s)', flush=True)
        return done.stdout

    def require(self, pattern: str, text: str) -> None:
        """Ends this program unless ``pattern`` is found in ``text``."""
        if not re.search(pattern, text, re.M):
            sys.exit(f'{text}\nerror: {pattern!r} should be in the lines above')


def use_with_pytorch_alone(python: Installed) -> None:
    python('-c', CONVOLUTION)
    report = python('-m', 'mmreplk')
    python.require(rf'^mmreplk +\S+, in {re.escape(str(python.site))}/mmreplk$', report)
    for line in (r'^mmengine +not installed$', r'^mmcv +not installed$', r'^backend torch +yes$'):
        python.require(line, report)
    python.require('^error: .* needs a package that is not installed: .*not installed: mmengine',
                   python('-m', 'mmreplk', 'train', CONFIG, status=2))


def use_with_stack(python: Installed) -> None:
    python.require(rf'^configs +\d\d+ in {re.escape(str(python.site))}/mmreplk/.mim/configs$', python('-m', 'mmreplk'))
    python('-m', 'mmreplk', 'make_mini_dataset', 'ade20k', 'data/mini_ade20k', '--num-train', '4', '--num-val', '2')
    python('-m', 'mmreplk', 'train', CONFIG, *SHORT)
    checkpoint = f'work_dirs/{CONFIG}/iter_2.pth'
    python.require('mIoU: ', python('-m', 'mmreplk', 'test', CONFIG, checkpoint))
    python('-m', 'mmreplk', 'predict', 'data/mini_ade20k/images/validation', '--model', CONFIG)
    if len(list(python.work.glob('predictions/overlays/*.jpg'))) != 2:
        sys.exit('error: predictions/overlays should hold the predictions of two pictures')
    python('-m', 'mmreplk', 'get_flops', OTHER_CONFIG)


def link(names: Iterable[str], site: Path) -> None:
    """Links distributions of this environment, and what these require, into ``site`` of another one."""
    for distribution in with_requirements(names):
        for top in {file.parts[0] for file in distribution.files or ()} - {'..', '__pycache__'}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))


def with_requirements(names: Iterable[str]) -> Iterator[importlib.metadata.Distribution]:
    """Yields distributions and all their requirements that are installed and not optional."""
    seen, waiting = set(), [*names]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # pip reports what the wheel lacks
            continue
        yield distribution
        waiting += _required(distribution.requires or ())


def _required(lines: Sequence[str]) -> list[str]:
    requirements = map(Requirement, lines)
    return [one.name for one in requirements if one.marker is None or one.marker.evaluate({'extra': ''})]


if __name__ == '__main__':
    main(parse_args())
