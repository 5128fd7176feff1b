"""Whole trainings on a real GPU, as a user has them: Triton's kernels, SyncBN, mixed precision, MMCV's operators."""

import math
import re

import pytest
import torch

from tests.tools.conftest import TINY
from tests.tools.processes import tool

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA GPU'),
]


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_a_segmentor_trains_and_is_evaluated_merged(dtype, short_options, tmp_path):
    amp, options = ([], []) if dtype == 'float32' else (['--amp'], [f'optim_wrapper.dtype={dtype}'])
    result = tool('train.py', TINY, '--work-dir', tmp_path, *amp, '--cfg-options', *short_options, *options)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
    assert result.stdout.count('evaluating with 6 large-kernel layers merged') == 2
    losses = [float(loss) for loss in re.findall(r'Iter\(train\).* loss: (\S+)', result.stdout)]
    assert len(losses) == 4 and all(map(math.isfinite, losses))
    assert 'memory: ' in result.stdout, 'MMEngine logs the memory of a GPU that it trains on'
    assert 'to PyTorch' not in result.stdout + result.stderr, 'no kernel fell back'


def test_a_detector_trains_and_is_evaluated_merged(masks):
    _, work_dir, log = masks
    assert 'memory: ' in log and 'evaluating with 6 large-kernel layers merged' in log
    assert 'to PyTorch' not in log and (work_dir / 'iter_2.pth').is_file()
