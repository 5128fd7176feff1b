"""What the package needs, and that nothing else is."""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmreplk import required

ROOT = Path(__file__).parents[1]
ONLY_TORCH = """
import sys
from importlib.abc import MetaPathFinder
from importlib.metadata import MetadataPathFinder, PackageNotFoundError, packages_distributions, requires
import re

def closure(name, found):
    if name not in found:
        found.add(name)
        try:
            for line in requires(name) or []:
                if 'extra ==' not in line:
                    closure(re.match(r'[\\w.-]+', line)[0].lower().replace('_', '-'), found)
        except PackageNotFoundError:
            pass
    return found

distributions = closure('torch', set()) | {'numpy'}
allowed = {module for module, owners in packages_distributions().items()
           if any(owner.lower().replace('_', '-') in distributions for owner in owners)}

class OnlyPyTorch(MetaPathFinder):
    finders = [*sys.meta_path]
    find_distributions = MetadataPathFinder.find_distributions

    def find_spec(self, name, path=None, target=None):
        specs = (finder.find_spec(name, path, target) for finder in self.finders)
        spec = next((spec for spec in specs if spec is not None), None)
        is_installed = spec is not None and 'site-packages' in f'{spec.origin}{spec.submodule_search_locations}'
        return None if is_installed and name.partition('.')[0] not in allowed else spec

sys.meta_path[:] = [OnlyPyTorch()]
import torch
try:
    import mmengine
except ModuleNotFoundError:
    pass
else:
    raise AssertionError('MMEngine can be imported')
"""


def run(code):
    """Runs ``code`` in a new process: what is imported before could not be hidden."""
    return subprocess.run([sys.executable, '-W', 'error', '-c', ONLY_TORCH + code], cwd=ROOT, capture_output=True,
                          text=True, timeout=300, env=dict(os.environ, PYTHONPATH=str(ROOT)))


@pytest.mark.parametrize('code', [
    'import mmreplk.ops; conv = mmreplk.ops.depthwise_conv2d',
    'from mmreplk import depthwise_conv2d as conv',
    """
from mmreplk.about import describe
from mmreplk.ops import depthwise_conv2d as conv
said = ' '.join(describe().split())
assert 'mmengine not installed mmcv not installed mmseg not installed mmdet not installed timm not' in said, said
assert 'backend torch yes' in said and f'torch {torch.__version__}' in said, said
""",
    """
from mmreplk import accelerate, restore, stand_in_path
model = torch.nn.Conv2d(8, 8, 31, padding=15, groups=8)
assert accelerate(model) == restore(model) == ['']
sys.path.append(stand_in_path())
from depthwise_conv2d_implicit_gemm import DepthWiseConv2dImplicitGEMM
from mmreplk.ops import depthwise_conv2d as conv
""",
], ids=['ops', 'root', 'about', 'acceleration'])
def test_pytorch_is_enough(code):
    result = run(code + """
assert 'torch._dynamo' not in sys.modules, 'it takes as long to import as all of PyTorch'
x, weight = torch.randn(2, 8, 64, 64, requires_grad=True), torch.randn(8, 1, 31, 31, requires_grad=True)
out = conv(x, weight)
assert torch.allclose(out, torch.nn.functional.conv2d(x, weight, padding=15, groups=8), atol=1e-3)
out.sum().backward()
assert x.grad.isfinite().all() and weight.grad.isfinite().all()
assert not {'mmengine', 'mmcv', 'mmseg', 'mmdet'} & {*sys.modules}
""")
    assert result.returncode == 0, result.stderr


def test_an_old_pytorch_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.6.1+cu124')
    with pytest.raises(ImportError, match=r'^mmreplk needs PyTorch 2\.7 or newer, got 2\.6\.1\+cu124$'):
        importlib.reload(required)
    for found in ('2.7.0a0+git', '2.13.0+cpu', '3.0'):
        monkeypatch.setattr(torch, '__version__', found)
        importlib.reload(required)


def test_an_old_triton_is_a_reason_not_to_use_it(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object())
    for found, problem in (('3.5.1', 'mmreplk needs Triton 3.6 or newer, got 3.5.1'), ('3.6.0', None), ('4.0', None)):
        monkeypatch.setattr(importlib.metadata, 'version', lambda name, found=found: found)
        assert problem == importlib.reload(required).TRITON_PROBLEM
    monkeypatch.undo()
    importlib.reload(required)


def test_extras_that_are_named_are_there():
    extras = {*re.findall(r"^        '(\w+)': \[", (ROOT / 'setup.py').read_text(), re.M)}
    pages = [ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md'), *(ROOT / 'mmreplk').rglob('*.py')]
    named = {extra for page in pages for names in re.findall(r'mmreplk\[([\w,]+)\]', page.read_text())
             for extra in names.split(',')}
    assert {'serve', 'runtimes'} <= named <= extras


def test_setup_and_pages_name_the_same_versions():
    torch_, triton = ('.'.join(map(str, least)) for least in (required.LEAST_TORCH, required.LEAST_TRITON))
    assert re.search(rf"'torch': \['torch>={re.escape(torch_)}'\],\n\s+'triton': \['triton>={re.escape(triton)}'\]",
                     (ROOT / 'setup.py').read_text())
    for page in ('README.md', 'docs/compatibility.md'):
        text = ' '.join((ROOT / page).read_text().split())
        assert f'PyTorch {torch_} or newer' in text and f'Triton {triton} or newer' in text, page
