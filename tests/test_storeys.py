"""Two storeys, PyTorch alone below and MM above, and who may import whom in them."""

import ast
import subprocess
from pathlib import Path

import pytest

from tests.warm import python

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'mmreplk'
ABOVE = ('mmengine', 'mmcv', 'mmseg', 'mmdet')
# What each part of the lower storey may import of this package, itself included.
_BASE = {'errors', 'io', 'required', 'spread', 'version'}
_OPS = {*_BASE, 'ops'}
_LAYERS = {*_OPS, 'layers'}
_NETWORKS = {*_LAYERS, 'networks'}
_ABOVE_NETWORKS = {*_NETWORKS, 'packing', 'merging', 'weights'}
BELOW = {
    'errors': set(),
    'version': set(),
    'required': set(),
    'spread': set(),
    'io': {'errors'},
    'interrupts': set(),
    'allocator': set(),
    'cli': {*_BASE, 'interrupts'},
    'ops': _OPS,
    'layers': _LAYERS,
    'acceleration': _LAYERS,
    'stand_in': _LAYERS,
    'shipped': {'errors'},
    'about': {'version', 'shipped', 'ops'},
    '__main__': {'errors', 'cli', 'shipped', 'about', 'stand_in'},
    'networks': _NETWORKS,
    'packing': {*_LAYERS, 'packing'},
    'merging': {*_NETWORKS, 'packing'},
    'sparsity': set(),
    'weights': {*_NETWORKS, 'weights'},
    'timm': {*_NETWORKS, 'weights'},
    'benchmarks': {*_ABOVE_NETWORKS, 'benchmarks'},
    'pictures': {*_ABOVE_NETWORKS, 'pictures'},
}
# Of the upper storey, in which everything may import what is below it.
_MM_BASE = {
    'required', 'kinds', 'logs', 'trust', 'internals', 'wrappers', 'processes', 'checkpoints', 'backbones'
}
_MM_MIDDLE = {*_MM_BASE, 'data', 'checks', 'config', 'optim', 'building', 'runner', 'hooks'}
MM = {
    'required': set(),
    'logs': set(),
    'kinds': set(),
    'backbones': set(),
    'checkpoint_loader': set(),
    'mobilenet_v2': {'backbones'},
    'conv_module': set(),
    'upernet': {'conv_module'},
    'trust': set(),
    'internals': set(),
    'wrappers': set(),
    'processes': set(),
    'checkpoints': _MM_BASE,
    'data': {'kinds', 'data'},
    'checks': {*_MM_BASE, 'data', 'checks'},
    'config': {*_MM_BASE, 'checks', 'config'},
    'optim': {'wrappers', 'optim'},
    'building': {*_MM_BASE, 'config', 'building'},
    'runner': {*_MM_BASE, 'hooks'},
    'rehearsal': {*_MM_BASE, 'checks', 'config', 'runner'},
    'hooks': {*_MM_BASE, 'data', 'checks', 'hooks'},
    'inference': {*_MM_MIDDLE, 'inference'},
    'benchmarks': {*_MM_MIDDLE, 'inference', 'export', 'benchmarks'},
    'export': {*_MM_MIDDLE, 'inference', 'export'},
    'reports': {*_MM_MIDDLE, 'inference', 'reports'},
}
NEVER = {'hooks': {'pictures', 'benchmarks'}}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix('').parts
    return parts[:-1] if parts[-1] == '__init__' else parts


def imported(path):
    """Yields the modules and names that a file imports, as tuples of the parts of their absolute names."""
    package = module_of(path) if path.name == '__init__.py' else module_of(path)[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split('.')) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split('.')) if node.module else ()
            yield from ((*base, alias.name) for alias in node.names)


FILES = sorted(path for path in PACKAGE.rglob('*.py') if path != PACKAGE / '__init__.py')
LOWER = [path for path in FILES if module_of(path)[1] != 'mm']
UPPER = [path for path in FILES if module_of(path)[1] == 'mm']


def parts_imported(path, storey):
    """Returns which parts of the package, or of its upper storey, a file imports."""
    depth = len(storey)
    return {names[depth] for names in imported(path) if names[:depth] == storey and len(names) > depth}


def short(path):
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize('path', LOWER, ids=short)
def test_the_lower_storey_imports_downwards_and_nothing_of_mm(path):
    assert parts_imported(path, ('mmreplk', )) <= BELOW[module_of(path)[1]]
    assert not {names[0] for names in imported(path)} & {*ABOVE}


@pytest.mark.parametrize('path', UPPER, ids=short)
def test_the_upper_storey_imports_downwards_and_the_frameworks_by_name(path):
    if path.parent == PACKAGE / 'mm' and path.name == '__init__.py':
        return  # which registers everything
    part = module_of(path)[2]
    assert parts_imported(path, ('mmreplk', 'mm')) <= MM[part]
    below = parts_imported(path, ('mmreplk', )) - {'mm'}
    assert below <= {*BELOW} - NEVER.get(part, set()) and 'cli' not in below
    assert not {names[0] for names in imported(path)} & {'mmseg', 'mmdet'}


def run(code):
    return subprocess.run([python('torch'), '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_the_lower_storey_works_without_mm():
    optional = PACKAGE / 'timm.py', PACKAGE / 'ops' / 'triton'
    names = ['.'.join(module_of(path)) for path in LOWER if not {path, *path.parents} & {*optional}]
    result = run(f"""
import importlib, sys, warnings
warnings.simplefilter('error')
for name in {ABOVE!r}:
    sys.modules[name] = None
import torch, mmreplk
for name in {names!r}:
    importlib.import_module(name)
assert mmreplk.depthwise_conv2d(torch.randn(1, 2, 8, 8), torch.randn(2, 1, 13, 13)).shape == (1, 2, 8, 8)
""")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('missing', [['mmcv'], ['mmengine'], ['mmengine', 'mmcv']], ids='-'.join)
def test_what_is_missing_is_said_once(missing):
    result = run(f"""
import sys
for name in {missing!r}:
    sys.modules[name] = None
import mmreplk
import mmreplk
try:
    import mmreplk.mm
except ImportError as error:
    print(f'ImportError: {{error}}')
""")
    assert result.returncode == 0, result.stderr
    names = ' and '.join(missing)
    assert f'ImportError: mmreplk.mm needs MMEngine and MMCV; not installed: {names}. See' in result.stdout
    warned = result.stderr.count(f'registers nothing in MMEngine: {missing[0]} is not installed, see requirements/')
    assert warned == (1 if len(missing) == 1 else 0)


@pytest.mark.parametrize('path', sorted((ROOT / 'tests').rglob('*.py')), ids=lambda path: path.stem)
def test_no_test_module_is_imported(path):
    """What several test modules need is in a module of its own, or in ``conftest.py``."""
    modules = [part for names in imported(path) for part in names[1:-1] if names[0] == 'tests']
    assert not [part for part in modules if part.startswith('test_')]
