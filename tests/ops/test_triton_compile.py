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
from mmreplk.ops.triton import cost, offline, tiles, tuning

TENSOR_CORES = {80: 'mma.m16n8k', 90: 'wgmma', 100: 'tcgen05'}
# Bytes of registers that a program may spill; on the last, four of the sums along diagonals, once, after the loop.
STACK = {80: 0, 90: 0, 100: 16}
# Multiplied in TF32 or as three products, which is what cuDNN's flag says.
PRECISIONS = {'bfloat16': (torch.bfloat16, True), 'tf32': (torch.float32, True), 'float32': (torch.float32, False)}
# (N, C, H, W, KH, KW); a width that is no multiple of 8 is padded to one.
CASES = [(16, 128, 128, 128, 31, 31), (1, 512, 32, 32, 27, 27), (16, 512, 32, 32, 27, 27), (2, 64, 50, 75, 51, 5)]


@pytest.fixture(params=PRECISIONS)
def precision(request, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', PRECISIONS[request.param][1])
    return request.param


def launches(case, dtype, sm, dilation=(1, 1)):
    n, c, h, w, kh, kw = case
    x, weight, bias = (torch.empty(shape, dtype=dtype, device='meta') for shape in [(n, c, h, w), (c, 1, kh, kw), (c,)])
    passes = (kernels.forward, x, weight, bias, True, False), (kernels.grad_input, x, weight), \
        (kernels.grad_weight, x, x, (kh, kw))
    return [launch for run, *arguments in passes for launch in offline.launches(sm, run, *arguments, dilation)]


def name_of(launch):
    return launch.kernel.__name__


@pytest.mark.parametrize('sm', TENSOR_CORES)
@pytest.mark.parametrize('case', CASES, ids=str)
def test_fast_code(case, sm, precision):
    for launch in launches(case, PRECISIONS[precision][0], sm):
        code = offline.inspect(launch, sm, counted=False)
        assert code.stack <= STACK[sm] and code.shared <= cost.GPUS[sm].shared_limit, code
        if code.kernel != 'tape_kernel':
            assert code.mma and all(name.startswith(TENSOR_CORES[sm]) for name in code.mma), code
            assert set(code.copies) == {16} and code.loads == 0, code


def test_shared_memory_fits_consumer_cards():
    for case in [*CASES, (1, 16, 40, 160, 127, 127)]:
        for launch in launches(case, torch.bfloat16, 86):
            assert offline.inspect(launch, 86, counted=False).shared <= 99 * 1024


@pytest.mark.parametrize('case', [CASES[0], CASES[2], (8, 64, 50, 75, 31, 31)], ids=str)
def test_the_gradient_of_the_filter_is_not_bound_by_its_own_arithmetic(case):
    """Of a step of 128 x 128 x 64 products, whose 512 cycles of the tensor cores leave time for 256 a warp."""
    launch, = (launch for launch in launches(case, torch.bfloat16, 90) if name_of(launch) == 'grad_weight_kernel')
    code = offline.inspect(launch, 90)
    step = offline.step(launch, code, 90)
    assert 0 < code.instructions <= 190 and step.issue < step.mma == 512, (code, step)


@pytest.fixture
def described(monkeypatch):
    """Takes the best tile with tensor descriptors where there is one."""
    def best(kernel, problem, x, candidates, launch):
        return next((tile for tile in candidates if tile.descriptors), candidates[0])

    monkeypatch.setattr(tuning, 'best', best)


@pytest.mark.parametrize('case', [*CASES[::2], (2, 96, 33, 40, 51, 5)], ids=str)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_tensor_descriptors_take_the_arithmetic_out_of_the_loop(case, dtype, described):
    """One instruction copies a block; the gradient of the filter waits and multiplies for each row on its own."""
    found = [launch for launch in launches(case, dtype, 90) if name_of(launch) != 'tape_kernel']
    kernels_ = ['descriptor_forward_kernel'] * 2 + ['descriptor_grad_weight_kernel']
    assert [*map(name_of, found)] == kernels_, 'all three passes'
    for launch in found:
        code = offline.inspect(launch, 90)
        assert code.mma and all(name.startswith('wgmma') for name in code.mma), code
        rows = launch.kwargs.get('DEPTH_IN', 0)
        assert not code.copies and code.bulk_copies == 1 + max(1, rows) and code.loads == code.stack == 0, code
        step = offline.step(launch, code, 90)
        assert code.instructions <= 100 + 50 * rows and step.issue < step.l2, (code, step)


@pytest.mark.parametrize('dilation', [(2, 2), (7, 7)])
def test_dilated_filters_get_the_same_code(dilation):
    for launch in launches((16, 160, 64, 64, 3, 3), torch.bfloat16, 90, dilation):
        code = offline.inspect(launch, 90, counted=name_of(launch) != 'tape_kernel')
        assert code.stack == 0
        if code.instructions is not None:
            assert code.mma and set(code.copies) == {16} and code.loads == 0 and code.instructions <= 260, code


@pytest.mark.parametrize('sm', [80, 90])
def test_the_cost_model_estimates_instructions(sm):
    """To a quarter: it ranks tiles, for which that is enough."""
    problem, gpu = tiles.Problem(*CASES[0]), cost.GPUS[sm]
    predicted = dict(
        forward_kernel=cost.forward_step(problem, cost.forward_tiles(problem, gpu)[0], gpu),
        grad_weight_kernel=cost.grad_weight_step(problem, cost.grad_weight_tiles(problem, gpu)[0], gpu))
    assert_estimated(launches(CASES[0], torch.bfloat16, sm), sm, predicted)


@pytest.mark.parametrize('case', CASES[:3], ids=str)
def test_the_cost_model_estimates_instructions_with_descriptors(case, described):
    problem, gpu = tiles.Problem(*case), cost.GPUS[90]
    forward, grad_weight = (next(tile for tile in ranked(problem, gpu) if tile.descriptors)
                            for ranked in (cost.forward_tiles, cost.grad_weight_tiles))
    predicted = dict(
        descriptor_forward_kernel=cost.forward_step(problem, forward, gpu),
        descriptor_grad_weight_kernel=cost.grad_weight_step(problem, grad_weight, gpu))
    assert_estimated(launches(case, torch.bfloat16, 90), 90, predicted)


def assert_estimated(found, sm, predicted):
    found = [launch for launch in found if name_of(launch) in predicted]
    assert {*map(name_of, found)} == {*predicted}
    for launch in found:
        counted, expected = offline.step(launch, offline.inspect(launch, sm), sm), predicted[name_of(launch)]
        assert counted._replace(issue=0) == expected._replace(issue=0)
        assert counted.issue == pytest.approx(expected.issue, rel=.25)
