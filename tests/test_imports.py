"""What works where mmseg, mmdet or triton is not installed, tried in processes that cannot import them."""

import subprocess
from pathlib import Path

import pytest

from tests.warm import python

ROOT = Path(__file__).parents[1]
BLOCK = 'import sys\nfor name in {missing!r}: sys.modules[name] = None\n'
USE = """
import torch
import mmreplk
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS, init_default_scope
from mmreplk import benchmarks, cli, pictures
from mmreplk.mm import building, checks, config, data, runner
arch = dict(large_kernel_sizes=[13, 7], layers=[1, 1], channels=[8, 16], small_kernel=5)
model = MODELS.build(dict(type='RepLKNet', arch=arch, out_indices=[0, 1])).eval()
with torch.no_grad(), mmreplk.reparameterized(model):
    assert [tuple(out.shape) for out in model(torch.randn(1, 3, 32, 32))] == [(1, 8, 8, 8), (1, 16, 4, 4)]
assert mmreplk.depthwise_conv2d(torch.randn(1, 2, 8, 8), torch.randn(2, 1, 13, 13)).shape == (1, 2, 8, 8)
for hook in ('ReparamHook', 'StrictLoadHook', 'ExactResumeHook', 'NonFiniteHook', 'SafeCheckpointHook'):
    HOOKS.build(dict(type=hook, **(dict(interval=1) if hook == 'SafeCheckpointHook' else {})))
from torch._subclasses import FakeTensorMode
with FakeTensorMode():
    x, weight = torch.empty(1, 128, 64, 64, device='cuda'), torch.empty(128, 1, 31, 31, device='cuda')
    reason = ''
    try:
        mmreplk.depthwise_conv2d(x, weight, backend='triton')
    except ValueError as error:
        reason = str(error)
    assert 'Triton is not installed' in reason
    with torch.no_grad():
        assert mmreplk.depthwise_conv2d(x, weight).shape == x.shape
assert not {'mmseg', 'mmdet'} & {name for name, module in sys.modules.items() if module is not None}
"""


def run(code, *arguments):
    return subprocess.run([python('torch'), '-W', 'ignore', '-c', code, *arguments], cwd=ROOT, capture_output=True,
                          text=True, timeout=300)


@pytest.mark.parametrize('missing', [['mmseg', 'mmdet', 'triton'], ['triton']], ids='-'.join)
def test_the_backbone_the_operator_and_the_hooks_need_none_of_them(missing):
    result = run(BLOCK.format(missing=missing) + USE)
    assert result.returncode == 0, result.stderr
    assert 'leaves kernels of 31 on cuda to PyTorch: Triton is not installed' in result.stdout + result.stderr


@pytest.mark.parametrize(('missing', 'name', 'there'), [
    ('mmseg', 'MMSegmentation', 'cascade_mask_rcnn_replknet_tiny_nuclei.py'),
    ('mmdet', 'MMDetection', 'upernet_replknet_tiny_camvid.py'),
])
def test_one_framework_works_without_the_other_and_a_missing_one_is_named(missing, name, there):
    other = dict(mmseg='upernet_replknet_tiny_camvid.py', mmdet='cascade_mask_rcnn_replknet_tiny_nuclei.py')[missing]
    result = run(BLOCK.format(missing=[missing]) + f"""
from mmreplk import InputError
from mmreplk.mm.building import build_empty_model
from mmreplk.mm.config import load_config
build_empty_model(load_config('configs/{there}'))
try:
    load_config('configs/{other}')
except InputError as error:
    print(error)
""")
    assert result.returncode == 0, result.stderr
    assert f'{other} is for {name}, and {missing} is not installed: see requirements/' in result.stdout


def test_a_tool_says_in_one_sentence_what_is_missing(tmp_path):
    code = BLOCK.format(missing=['mmseg']) + "import runpy\nrunpy.run_path('tools/train.py', run_name='__main__')"
    result = run(code, 'configs/upernet_replknet31b_ade20k.py', '--work-dir', str(tmp_path))
    assert result.returncode == 2 and 'Traceback' not in result.stderr, result.stderr
    assert 'upernet_replknet31b_ade20k.py is for MMSegmentation, and mmseg is not installed' in result.stderr
