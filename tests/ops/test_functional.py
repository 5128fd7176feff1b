import math
import subprocess

import pytest
import torch
import torch.nn.functional as F

from mmreplk.ops import cpu, depthwise_conv2d, functional, reference
from mmreplk.ops.cpu import costs
from tests.warm import python

from .operands import SHAPES, TOLERANCE, assert_close, make

pytestmark = pytest.mark.usefixtures('poisoned_empty', 'fast_path_for_small_maps')


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_three_passes_agree_with_the_reference(shape, dtype):
    n, _, h, w, kh, kw = shape
    x, weight, bias = make(shape, dtype)
    out = depthwise_conv2d(x, weight, bias)
    grad = torch.randn_like(out)
    out.backward(grad)
    xd, wd, bd, gd = (t.detach().double() for t in (x, weight, bias, grad))
    assert out.dtype == x.grad.dtype == weight.grad.dtype == bias.grad.dtype == dtype
    assert_close(out, reference.forward(xd, wd, bd), kh * kw)
    assert_close(x.grad, reference.grad_input(gd, wd), kh * kw)
    assert_close(weight.grad, reference.grad_weight(xd, gd, (kh, kw)), n * h * w)
    assert_close(bias.grad, gd.sum((0, 2, 3)), n * h * w)


def test_reference_is_the_convolution_and_its_gradients():
    x, weight, bias = make((2, 3, 6, 7, 5, 3), torch.float64)
    out = F.conv2d(x, weight, bias, padding=(2, 1), groups=3)
    torch.testing.assert_close(reference.forward(x, weight, bias), out)
    grad = torch.randn_like(out)
    grads = torch.autograd.grad(out, (x, weight), grad)
    torch.testing.assert_close(reference.grad_input(grad, weight), grads[0])
    torch.testing.assert_close(reference.grad_weight(x, grad, (5, 3)), grads[1])


@pytest.mark.parametrize('layout', ['channels_last', 'sliced', 'transposed', 'expanded'])
def test_any_layout_of_input_and_gradient(layout):
    weight = torch.randn(4, 1, 13, 13, requires_grad=True)

    def lay_out(t):
        if layout == 'channels_last':
            return t.to(memory_format=torch.channels_last)
        if layout == 'sliced':
            return torch.randn(2, 6, 22, 32)[:, 1:5, 1:21, 3:23].copy_(t)
        if layout == 'transposed':
            return t.transpose(2, 3).contiguous().transpose(2, 3)
        return t[:1].expand(2, -1, -1, -1)

    x = lay_out(torch.randn(2, 4, 20, 20)).requires_grad_()
    out = depthwise_conv2d(x, weight)
    grad = lay_out(torch.randn(2, 4, 20, 20))
    grads = torch.autograd.grad(out, (x, weight), grad)
    assert_close(out.detach(), reference.forward(x.detach().double(), weight.detach().double()), 169)
    assert_close(grads[0], reference.grad_input(grad.double(), weight.detach().double()), 169)
    assert_close(grads[1], reference.grad_weight(x.detach().double(), grad.double(), (13, 13)), 800)


@pytest.mark.parametrize(
    'options', [
        dict(stride=2, padding=15),
        dict(padding=3),
        dict(padding=(15, 2)),
        dict(padding='same', dilation=2),
        dict(padding=0),
        dict(padding='same'),
        dict(stride=(1, 3), padding=(0, 15), dilation=(1, 2)),
    ],
    ids=str)
def test_every_option_of_conv2d(options):
    x, weight, bias = make((2, 3, 70, 71, 31, 31))
    expected = F.conv2d(x.double(), weight.double(), bias.double(), groups=3, **options)
    assert_close(depthwise_conv2d(x, weight, bias, **options), expected, 961)


def test_even_kernels_and_empty_batches():
    x, weight, _ = make((2, 3, 20, 20, 8, 8))
    assert_close(depthwise_conv2d(x, weight), F.conv2d(x.double(), weight.double(), padding='same', groups=3), 64)
    assert depthwise_conv2d(torch.empty(0, 3, 20, 20), torch.ones(3, 1, 31, 31)).shape == (0, 3, 20, 20)


def test_the_fast_path_is_taken():
    if not cpu.IS_SUPPORTED:
        pytest.skip('needs AVX2: elsewhere PyTorch computes, and there is no way of ours')
    x, weight, _ = make((1, 2, 20, 20, 31, 31))
    assert 'DepthwiseConv2d' in type(depthwise_conv2d(x, weight).grad_fn).__name__
    assert 'DepthwiseConv2d' not in type(depthwise_conv2d(x, weight, stride=2).grad_fn).__name__


def test_what_was_chosen_is_kept_by_all_that_it_depends_on(monkeypatch):
    asked, choose = [], functional.choose_backend
    monkeypatch.setattr(functional, 'choose_backend', lambda *args: asked.append(args) or choose(*args))
    monkeypatch.setattr(functional, 'MOST_PLANS', 10)
    x, weight, _ = make((2, 3, 12, 12, 5, 5))
    frozen, last = weight.detach(), x.detach().to(memory_format=torch.channels_last)
    calls = [lambda: depthwise_conv2d(x, weight), lambda: depthwise_conv2d(x, frozen),
             lambda: depthwise_conv2d(x.detach(), weight), lambda: depthwise_conv2d(x.detach(), frozen),
             lambda: depthwise_conv2d(last, weight), lambda: depthwise_conv2d(x[:1], weight),
             lambda: depthwise_conv2d(x, weight, padding=2), lambda: depthwise_conv2d(x, weight, padding=(2, 2)),
             lambda: depthwise_conv2d(x.double(), weight.double()),
             torch.no_grad()(lambda: depthwise_conv2d(x, weight)),
             torch.autocast('cpu', torch.bfloat16)(lambda: depthwise_conv2d(x, weight))]
    for call in 2 * calls:
        call()
    assert len(asked) == len(functional._PLANS) == len(calls) - 1, 'without gradients both are as if frozen'
    depthwise_conv2d(x, weight, padding=[2, 2])
    depthwise_conv2d(x, weight, torch.zeros(3))
    assert len(asked) == len(calls) + 1 and len(functional._PLANS) == 1, 'full, and started anew'
    with pytest.raises(ValueError, match='stride must be'):
        depthwise_conv2d(x, weight, stride=0)


def test_small_maps_are_not_left_to_pytorch_where_it_is_wrong(monkeypatch):
    monkeypatch.setattr(costs, 'OVERHEAD', math.inf)
    for shape, dtype in (((1, 4, 70, 3, 51, 1), torch.float32), ((1, 4, 70, 3, 63, 3), torch.float32),
                         ((2, 3, 20, 17, 31, 31), torch.float16), ((1, 1, 16, 24, 45, 13), torch.float32)):
        (n, _, h, w, kh, kw), (x, weight, _) = shape, make(shape, dtype)
        grad = torch.randn(x.shape).to(dtype)
        actual, = torch.autograd.grad(depthwise_conv2d(x, weight), weight, grad)
        assert_close(actual, reference.grad_weight(x.double(), grad.double(), (kh, kw)), n * h * w)


def test_gradients_of_frozen_operands_are_not_computed():
    x, weight, bias = make((1, 2, 20, 20, 31, 31))
    out = depthwise_conv2d(x.detach(), weight, bias.detach())
    out.sum().backward()
    assert x.grad is None and bias.grad is None and weight.grad is not None


def test_second_derivative_is_refused():
    x, weight, _ = make((1, 2, 20, 20, 31, 31))
    grad, = torch.autograd.grad(depthwise_conv2d(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match='differentiate twice'):
        grad.sum().backward()


@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('requires_grad', [False, True])
def test_opcheck(requires_grad, channels_last, relu):
    inputs = [t.requires_grad_(requires_grad) for t in make((2, 3, 9, 10, 7, 7))]
    geometry = [1, 1], [3, 3], [1, 1]
    torch.library.opcheck(torch.ops.mmreplk.depthwise_conv2d.default, (*inputs, relu, *geometry, channels_last))


@pytest.mark.parametrize('size', [3, 31])
def test_relu_and_its_gradients(size):
    inputs = make((2, 3, 12, 13, size, size))
    out = depthwise_conv2d(*inputs, activation='relu')
    expected = depthwise_conv2d(*inputs).relu()
    grad = torch.randn_like(out)
    assert torch.equal(out, expected) and (out == 0).any()
    grads = torch.autograd.grad(out, inputs, grad)
    for actual, desired in zip(grads, torch.autograd.grad(expected, inputs, grad), strict=True):
        assert torch.equal(actual, desired)


def test_backends_agree():
    inputs = make((2, 3, 20, 20, 13, 13))
    expected = depthwise_conv2d(*inputs, backend='torch')
    assert 'DepthwiseConv2d' not in type(expected.grad_fn).__name__
    if cpu.IS_SUPPORTED:
        out = depthwise_conv2d(*inputs, backend='cpu')
        assert 'DepthwiseConv2d' in type(out.grad_fn).__name__
        torch.testing.assert_close(out, expected)


def test_vmap():
    x, weight, bias = (t.detach() for t in make((6, 3, 20, 20, 13, 13)))
    out = torch.vmap(lambda x: depthwise_conv2d(x, weight, bias))(x.view(3, 2, 3, 20, 20))
    torch.testing.assert_close(out.flatten(0, 1), depthwise_conv2d(x, weight, bias))


def test_works_without_triton():
    program = """
import sys
sys.modules['triton'] = None
import torch, mmreplk
mmreplk.depthwise_conv2d(torch.ones(1, 2, 8, 8), torch.ones(2, 1, 31, 31))
assert 'mmreplk.ops.triton' not in sys.modules
"""
    subprocess.run([python('torch'), '-c', program], check=True)


X, W, B = torch.zeros(1, 3, 8, 8), torch.zeros(3, 1, 7, 7), torch.zeros(3)


@pytest.mark.parametrize(('arguments', 'error', 'words'), [
    (dict(x=[1]), TypeError, 'x must be a torch.Tensor, got list'),
    (dict(x=X.int(), weight=W.int(), bias=None, backend='cpu'), TypeError, 'floating-point dtype, got torch.int32'),
    (dict(x=X[0]), ValueError, r'x must have shape \(N, C, H, W\), got \(3, 8, 8\)'),
    (dict(weight=W[:2]), ValueError, r'weight must have shape \(3, 1, KH, KW\).*got \(2, 1, 7, 7\)'),
    (dict(weight=W.expand(3, 3, 7, 7)), ValueError, r'got \(3, 3, 7, 7\)'),
    (dict(weight=W.double()), TypeError, 'dtype of x, torch.float32, got torch.float64'),
    (dict(x=X[0].to('meta'), weight=W.double().to('meta'), bias=None), TypeError, 'dtype of x, torch.float32, got'),
    (dict(weight=W.to('meta')), ValueError, 'device of x, cpu, got meta'),
    (dict(bias=B[:2]), ValueError, r'bias must have shape \(3,\), got \(2,\)'),
    (dict(padding=-1), ValueError, 'padding must be .* got -1'),
    (dict(padding='valid'), ValueError, "padding must be .* got 'valid'"),
    (dict(stride=0), ValueError, 'stride must be .* got 0'),
    (dict(weight=W[..., 1:], stride=2), ValueError, r"padding 'same' needs an odd kernel.*got a kernel of \(7, 6\)"),
    (dict(dilation=(1, 2, 3)), ValueError, r'dilation must be .* got \(1, 2, 3\)'),
    (dict(activation='gelu'), ValueError, "activation must be None or 'relu', got 'gelu'"),
    (dict(activation=''), ValueError, "activation must be None or 'relu', got ''"),
    (dict(padding=(3, -3)), ValueError, r'padding must be .* got \(3, -3\)'),
    (dict(bias=[0, 0, 0]), TypeError, 'bias must be a torch.Tensor, got list'),
    (dict(x=torch.zeros(1, 6, 8, 8)), ValueError, r'weight must have shape \(6, 1, KH, KW\).*got \(3, 1, 7, 7\)'),
    (dict(backend='cuda'), ValueError, "backend 'cuda' cannot compute this: there are 'torch', 'cpu' and 'triton'"),
    (dict(backend='triton'), ValueError, "backend 'triton' cannot compute this: the input is on cpu"),
    (dict(bias=B.int()), TypeError, 'bias must have the dtype of x, torch.float32, got torch.int32'),
    (dict(x=X.double(), weight=W.double(), bias=None, backend='cpu'), ValueError, 'it needs float32.*torch.float64'),
])
def test_bad_input_is_named(arguments, error, words):
    with pytest.raises(error, match=words):
        depthwise_conv2d(**dict(dict(x=X, weight=W, bias=B), **arguments))
