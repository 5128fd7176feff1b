"""Random shapes, dtypes, layouts and options of the public function against PyTorch in float64.

``MMREPLK_FUZZ=2000 pytest tests/ops/test_fuzz.py`` tries that many cases.
"""

import os

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmreplk.ops import depthwise_conv2d

# Relative to the largest value of the reference, or to what a sum of that many normal products is expected to be. Where
# PyTorch computes, it adds products in turn, and the rounding of more than 1000 grows by the root of their number.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 3e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}
# Of kernels of even sizes, which PyTorch computes: its own bfloat16 and float16 round on the way.
EVEN_TOLERANCE = TOLERANCE | {torch.bfloat16: 2e-2, torch.float16: 8e-3}


def laid_out(t, layout):
    if layout == 'channels_last':
        return t.contiguous(memory_format=torch.channels_last)
    if layout == 'transposed':
        return t.mT.contiguous().mT
    if layout == 'sliced':
        return F.pad(t, (1, 2, 0, 1))[..., :-1, 1:-2]
    return t


@st.composite
def problems(draw):
    dims = [draw(st.integers(1, high)) for high in (3, 5, 24, 24)]
    kernel = draw(st.tuples(*[st.sampled_from([1, 2, 3, 5, 7, 8, 13, 21, 31, 51])] * 2))
    options, dtypes = {}, list(TOLERANCE)
    if draw(st.booleans()):  # What is left to PyTorch, whose float16 is off by per cents on the largest kernels.
        dtypes = [torch.float64, torch.float32]
        options = dict(
            stride=draw(st.integers(1, 3)),
            dilation=draw(st.integers(1, 2)),
            padding=draw(st.tuples(*[st.integers(k, k + 4) for k in kernel])))
    return dict(
        shape=dims,
        kernel=kernel,
        dtype=draw(st.sampled_from(dtypes)),
        layouts=draw(st.tuples(*[st.sampled_from(['contiguous', 'channels_last', 'transposed', 'sliced'])] * 3)),
        bias=draw(st.booleans()),
        activation=draw(st.sampled_from([None, 'relu'])),
        seed=draw(st.integers(0, 2**31)),
        options=options)


def assert_close(actual, expected, terms, is_ours, tolerance):
    assert actual.shape == expected.shape
    if actual.numel():
        scale = max(terms**.5, expected.abs().max())
        error = (actual.double() - expected).abs().max() / scale
        growth = 1 if is_ours else max(1, terms / 1000)**.5
        assert error <= tolerance[actual.dtype] * growth, f'{error:.1e} of {scale:.1e}'


@pytest.mark.usefixtures('fast_path_for_small_maps')
@settings(max_examples=int(os.environ.get('MMREPLK_FUZZ', 60)), derandomize=True, deadline=None,
          suppress_health_check=[HealthCheck.too_slow])  # which asks the clock
@given(problems())
def test_any_problem_agrees_with_float64(problem):
    torch.manual_seed(problem['seed'])
    (n, c, h, w), (kh, kw), dtype = problem['shape'], problem['kernel'], problem['dtype']
    x, weight = torch.randn(n, c, h, w).to(dtype), torch.randn(c, 1, kh, kw).to(dtype)
    inputs = [laid_out(t, layout) for t, layout in zip((x, weight), problem['layouts'], strict=False)]
    inputs += [torch.randn(c).to(dtype)] * problem['bias']
    inputs = [t.requires_grad_() for t in inputs]
    doubles = [t.detach().double().requires_grad_() for t in inputs]

    out = depthwise_conv2d(*inputs, activation=problem['activation'], **problem['options'])
    expected = F.conv2d(*doubles, **dict(dict(padding='same'), **problem['options']), groups=c)
    assert out.dtype == dtype
    if problem['activation']:
        # The sign of what is zero but for rounding decides about a gradient: take it from the output under test.
        expected = expected * (out > 0)
    is_ours, tolerance = not problem['options'], TOLERANCE if kh % 2 and kw % 2 else EVEN_TOLERANCE
    assert_close(out.detach(), expected.detach(), kh * kw, is_ours, tolerance)

    grad = laid_out(torch.randn(out.shape).to(dtype), problem['layouts'][2])
    grads = torch.autograd.grad(out, inputs, grad)
    desired = torch.autograd.grad(expected, doubles, grad.double())
    for actual, reference, terms in zip(grads, desired, (kh * kw, n * h * w, n * h * w), strict=False):
        assert_close(actual, reference, terms, is_ours, tolerance)
