"""What the compiler makes of the Triton kernels at the default tiles, for GPUs that need not be there."""

import importlib.util
import os

import pytest
import torch

if importlib.util.find_spec('triton') is None:
    pytest.skip('Triton is not installed', allow_module_level=True)
if os.environ.get('TRITON_INTERPRET') == '1':
    pytest.skip('Triton is interpreted', allow_module_level=True)

from mmreplk.ops import triton as kernels
from mmreplk.ops.triton import offline

TENSOR_CORES = {80: 'mma.m16n8k', 90: 'wgmma', 100: 'tcgen05'}
# Multiplied in TF32 or as three products, which is what cuDNN's flag says.
PRECISIONS = {'bfloat16': (torch.bfloat16, True), 'tf32': (torch.float32, True), 'float32': (torch.float32, False)}
# (N, C, H, W, KH, KW); a width that is no multiple of 8 is padded to one.
CASES = [(16, 128, 128, 128, 31, 31), (1, 512, 32, 32, 27, 27), (16, 512, 32, 32, 27, 27), (2, 64, 50, 75, 51, 5)]


@pytest.fixture(params=PRECISIONS)
def precision(request, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', PRECISIONS[request.param][1])
    return request.param


def launches(case, dtype, sm):
    n, c, h, w, kh, kw = case
    x, weight, bias = (torch.empty(shape, dtype=dtype, device='meta') for shape in [(n, c, h, w), (c, 1, kh, kw), (c,)])
    passes = (kernels.forward, x, weight, bias, True), (kernels.grad_input, x, weight), \
        (kernels.grad_weight, x, x, (kh, kw))
    return [launch for run, *arguments in passes for launch in offline.launches(sm, run, *arguments)]


@pytest.mark.parametrize('sm', TENSOR_CORES)
@pytest.mark.parametrize('case', CASES, ids=str)
def test_fast_code(case, sm, precision):
    for launch in launches(case, PRECISIONS[precision][0], sm):
        code = offline.inspect(launch, sm)
        assert code.stack == 0 and code.shared <= offline.SHARED_LIMIT[sm], code
        if code.kernel != 'tape_kernel':
            assert code.mma and all(name.startswith(TENSOR_CORES[sm]) for name in code.mma), code
            assert set(code.copies) == {16} and code.loads == 0, code


def test_shared_memory_fits_consumer_cards():
    for case in [*CASES, (1, 16, 40, 160, 127, 127)]:
        for launch in launches(case, torch.bfloat16, 86):
            assert offline.inspect(launch, 86).shared <= 99 * 1024
