"""What works where mmseg, mmdet or triton is not installed, tried in processes that cannot import them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = 'import sys\nfor name in {missing!r}: sys.modules[name] = None\n'
USE = """
import torch
import mmreplk
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmreplk.engine import build_runner, check_before_training, load_config, run
from mmreplk import analysis, datasets
arch = dict(large_kernel_sizes=[13, 7], layers=[1, 1], channels=[8, 16], small_kernel=5)
model = MODELS.build(dict(type='RepLKNet', arch=arch, out_indices=[0, 1])).eval()
with torch.no_grad(), mmreplk.reparameterized(model):
    assert [tuple(out.shape) for out in model(torch.randn(1, 3, 32, 32))] == [(1, 8, 8, 8), (1, 16, 4, 4)]
assert mmreplk.depthwise_conv2d(torch.randn(1, 2, 8, 8), torch.randn(2, 1, 13, 13)).shape == (1, 2, 8, 8)
for hook in ('ReparamHook', 'StrictLoadHook', 'ExactResumeHook', 'NonFiniteHook', 'SafeCheckpointHook'):
    HOOKS.build(dict(type=hook, **(dict(interval=1) if hook == 'SafeCheckpointHook' else {})))
assert not {'mmseg', 'mmdet'} & {name for name, module in sys.modules.items() if module is not None}
"""


def python(code, *arguments):
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *arguments], cwd=ROOT, capture_output=True,
                          text=True, timeout=300)  # yapf: disable


@pytest.mark.compat
@pytest.mark.parametrize('missing', [['mmseg', 'mmdet', 'triton'], ['triton']], ids='-'.join)
def test_the_backbone_the_operator_and_the_hooks_need_none_of_them(missing):
    result = python(BLOCK.format(missing=missing) + USE)
    assert result.returncode == 0, result.stderr


@pytest.mark.compat
def test_a_framework_that_is_missing_is_named(tmp_path):
    code = BLOCK.format(missing=['mmseg']) + "import runpy\nrunpy.run_path('tools/train.py', run_name='__main__')"
    result = python(code, 'configs/upernet_replknet31b_ade20k.py', '--work-dir', str(tmp_path))
    assert result.returncode == 2 and 'Traceback' not in result.stderr, result.stderr
    assert 'upernet_replknet31b_ade20k.py is for MMSegmentation, and mmseg is not installed' in result.stderr
