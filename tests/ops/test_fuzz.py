"""Random shapes, dtypes, layouts, options and ways of the public function against PyTorch in float64.

``MMREPLK_FUZZ=2000 pytest tests/ops/test_fuzz.py`` tries that many cases.
"""

import os
import random
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmreplk.ops import depthwise_conv2d, memory_format
from mmreplk.ops.cpu import costs, facts, same, ways

# Relative to the largest value of the reference, or to what a sum of that many normal products is expected to be. Where
# PyTorch computes, it adds products in turn, and the rounding of more than 1000 grows by the root of their number.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 3e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}
KERNEL_SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 21, 31, 51, 63]


def laid_out(t, layout):
    if layout == 'channels_last':
        return memory_format.laid_out(t, channels_last=True)
    if layout == 'transposed':
        return t.mT.contiguous().mT
    if layout == 'sliced':
        return F.pad(t, (1, 2, 0, 1))[..., :-1, 1:-2]
    if layout == 'sliced_channels_last':
        return memory_format.laid_out(F.pad(t, (1, 2, 0, 1)), channels_last=True)[..., :-1, 1:-2]
    return t


def pairs(values):
    return st.one_of(values.map(lambda v: (v, v)), st.tuples(values, values))


@st.composite
def problems(draw):
    n, c = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 5, 16, 17, 20, 64]))
    kernel = draw(pairs(st.sampled_from(KERNEL_SIZES)))
    stride, dilation = (1, 1), (1, 1)
    if draw(st.booleans()):
        stride, dilation = draw(pairs(st.integers(1, 3))), draw(pairs(st.integers(1, 7)))
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = 'same'
    if draw(st.booleans()) or (stride != (1, 1) and not all(k % 2 for k in kernel)):
        padding = tuple(e // 2 + draw(st.integers(0, 3)) for e in extent)
    layouts = st.sampled_from(['contiguous', 'channels_last', 'transposed', 'sliced', 'sliced_channels_last'])
    return dict(
        shape=(n, c, draw(st.integers(1, 28)), draw(st.integers(1, 28))),
        kernel=kernel,
        dtype=draw(st.sampled_from(list(TOLERANCE))),
        layouts=draw(st.tuples(layouts, layouts, layouts)),
        bias=draw(st.booleans()),
        activation=draw(st.sampled_from([None, 'relu'])),
        trains=draw(st.sampled_from([True, True, False])),
        seed=draw(st.integers(0, 2**31)),
        options=dict(stride=stride, padding=padding, dilation=dilation))


def reference(x, weight, bias, kernel, stride, padding, dilation):
    """PyTorch's float64, for even kernels and "same" padding at any stride."""
    if padding == 'same' and stride != (1, 1):
        padding = tuple(d * (k // 2) for k, d in zip(kernel, dilation, strict=True))
    return F.conv2d(x, weight, bias, stride, padding, dilation, len(weight))


def assert_close(actual, expected, terms, tolerance, what):
    assert actual.shape == expected.shape
    if actual.numel():
        scale = max(terms**.5, expected.abs().max())
        error = (actual.double() - expected).abs().max() / scale
        bound = tolerance * max(1, terms / 1000)**.5
        assert error <= bound, f'{what}: {error:.1e} of {scale:.1e}, allowed are {bound:.1e}'


def assert_format(t, channels_last):
    assert not t.numel() or t.stride() == memory_format.strides(t.shape, channels_last)


@pytest.mark.usefixtures('fast_path_for_small_maps')
@settings(max_examples=int(os.environ.get('MMREPLK_FUZZ', 150)), derandomize=True, deadline=None,
          suppress_health_check=[HealthCheck.too_slow])  # which asks the clock
@given(problems())
def test_any_problem_agrees_with_float64(problem):
    torch.manual_seed(problem['seed'])
    (n, c, h, w), kernel, dtype = problem['shape'], problem['kernel'], problem['dtype']
    x, weight = torch.randn(n, c, h, w).to(dtype), torch.randn(c, 1, *kernel).to(dtype)
    inputs = [laid_out(x, problem['layouts'][0]), laid_out(weight, problem['layouts'][1])]
    inputs += [torch.randn(c).to(dtype)] * problem['bias']
    inputs = [t.requires_grad_(problem['trains']) for t in inputs]
    doubles = [t.detach().double().requires_grad_() for t in inputs]
    channels_last = any(memory_format.is_channels_last(t) for t in inputs[:2])

    rng = random.Random(problem['seed'])

    def any_way(what, problem):
        return rng.choice(ways.possible(what, problem))

    with mock.patch.object(costs, 'cheapest', any_way):
        out = depthwise_conv2d(*inputs, activation=problem['activation'], **problem['options'])
        expected = reference(*doubles, *[None] * (3 - len(doubles)), kernel, **problem['options'])
        assert out.dtype == dtype
        is_own = 'DepthwiseConv2d' in type(out.grad_fn).__name__
        if is_own:
            assert_format(out, channels_last)
        if problem['activation']:
            # The sign of what is zero but for rounding decides about a gradient: take it from the output under test.
            expected = expected * (out > 0)
        assert_close(out.detach(), expected.detach(), kernel[0] * kernel[1], TOLERANCE[dtype], 'output')
        if not problem['trains']:
            return
        grad = laid_out(torch.randn(out.shape).to(dtype), problem['layouts'][2])
        grads = torch.autograd.grad(out, inputs, grad)
    desired = torch.autograd.grad(expected, doubles, grad.double())
    terms = out.numel() // c
    for name, actual, reference_, count in zip(('grad_input', 'grad_weight', 'grad_bias'), grads, desired,
                                               (kernel[0] * kernel[1], terms, terms), strict=False):
        assert_close(actual, reference_, count, TOLERANCE[dtype], name)
        # "Same" padding of an even kernel is made before, by PyTorch and by us: its gradient is a slice.
        is_padded = problem['options']['padding'] == 'same' and not all(k % 2 for k in kernel)
        if is_own and (name == 'grad_weight' or (name == 'grad_input' and not is_padded)):
            assert_format(actual, channels_last)


@pytest.mark.skipif(not facts.IS_SUPPORTED, reason='this CPU has no ways of our own')
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_every_way_is_among_those_that_are_tried(dtype):
    problem = ways.Problem(1, 64, 20, 20, 31, 29, dtype, False, False)
    kernels = {way.kernel for way in ways.convolving(problem._replace(kh=7, kw=9))}
    assert kernels == {'direct', 'forward', 'transposed', 'fourier'}
    assert {way.kernel for way in ways.grad_weight(problem)} >= {'direct', 'transposed', 'fourier'}
    assert same.convolve_by and len(ways.convolving(problem)) >= 4
