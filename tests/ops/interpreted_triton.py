"""The Triton kernels in Triton's interpreter, against the reference in float64; ``test_triton.py`` runs this file."""

import importlib

import pytest
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from mmreplk.layers import ReparamLargeKernelConv
from mmreplk.ops import reference
from mmreplk.ops import triton as kernels
from mmreplk.ops.triton import tiles, toeplitz, tuning

pytestmark = pytest.mark.usefixtures('poisoned_empty', 'bfloat16_products')

# Relative to the largest value of the reference, for a reduction of 1000 terms; grows with its square root.
# The interpreter truncates to bfloat16 where GPUs round, which takes twice the tolerance.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 5e-4}
# (N, C, H, W, KH, KW): a block of columns is 16 or 32 wide, a stack of rows 4 or 8 high.
SHAPES = [
    (2, 2, 19, 40, 31, 31),  # several blocks of columns
    (1, 3, 17, 49, 13, 13),  # one column in the last block
    (3, 1, 9, 27, 27, 27),  # the map in one block; smaller than the filter
    (1, 1, 1, 1, 31, 31),
    (2, 1, 5, 16, 3, 3),
    (40, 1, 8, 10, 7, 7),  # several blocks of stacks
    (1, 2, 11, 37, 5, 51),
    (1, 2, 37, 11, 51, 5),  # transposed
    (2, 1, 4, 70, 1, 63),
    (1, 1, 6, 34, 1, 1),
    (1, 1, 2, 40, 3, 127),  # a window wider than 128
]


@pytest.fixture
def bfloat16_products(monkeypatch):
    """Triton's interpreter keeps bfloat16 as raw 16-bit integers and multiplies them as such: widens them first."""
    multiply = InterpreterBuilder.create_dot

    def widen(t):
        return TensorHandle((t.data.astype('uint32') << 16).view('float32'), tl.float32) \
            if t.dtype.scalar == tl.bfloat16 else t

    monkeypatch.setattr(InterpreterBuilder, 'create_dot',
                        lambda self, a, b, *rest: multiply(self, widen(a), widen(b), *rest))


def make(shape, dtype=torch.float32):
    n, c, h, w, kh, kw = shape
    tensors = torch.randn(n, c, h, w), torch.randn(c, 1, kh, kw), torch.randn(c), torch.randn(n, c, h, w)
    return [t.to(dtype) for t in tensors]


def assert_close(actual, expected, terms):
    error, largest = (actual.double() - expected).abs().max(), expected.abs().max()
    assert actual.is_contiguous() and actual.shape == expected.shape
    assert error <= TOLERANCE[actual.dtype] * max(1, terms / 1000)**.5 * largest, f'{error:.1e} of {largest:.1e}'


def check(x, weight, bias, grad):
    (n, _, h, w), (kh, kw) = x.shape, weight.shape[-2:]
    xd, wd, bd, gd = (t.double() for t in (x, weight, bias, grad))
    out = reference.forward(xd, wd, bd)
    assert_close(kernels.forward(x, weight, bias), out, kh * kw)
    assert_close(kernels.forward(x, weight, bias, relu=True), out.relu(), kh * kw)
    assert_close(kernels.grad_input(grad, weight), reference.grad_input(gd, wd), kh * kw)
    assert_close(kernels.grad_weight(x, grad, (kh, kw)), reference.grad_weight(xd, gd, (kh, kw)), n * h * w)


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_three_passes_agree_with_the_reference(shape):
    check(*make(shape))


@pytest.mark.parametrize('shape', SHAPES[1::2], ids=str)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(shape, dtype):
    check(*make(shape, dtype))


@pytest.mark.parametrize('layout', ['channels_last', 'sliced', 'expanded', 'unaligned'])
def test_any_layout(layout):
    x, weight, bias, grad = make((2, 2, 10, 18, 7, 7))

    def lay_out(t):
        if layout == 'channels_last':
            return t.to(memory_format=torch.channels_last)
        if layout == 'sliced':
            return torch.randn(2, 4, 12, 24)[:, 1:3, 1:11, 3:21].copy_(t)
        if layout == 'unaligned':
            return torch.randn(t.numel() + 1)[1:].view(t.shape).copy_(t)
        return t[:1].expand(2, -1, -1, -1)

    check(lay_out(x), torch.randn(2, 1, 9, 9)[..., 1:8, :7].copy_(weight), bias, lay_out(grad))


def test_filters_of_another_dtype_are_rounded():
    x, weight, *_ = make((1, 2, 9, 17, 5, 5), torch.float16)
    precise = weight + torch.rand(weight.shape) * 1e-5
    assert precise.dtype == torch.float32
    assert torch.equal(kernels.forward(x, precise), kernels.forward(x, precise.half()))


def test_every_candidate_tile_computes_the_same(monkeypatch):
    x, weight, bias, grad = make((3, 1, 19, 40, 13, 13))
    for i in range(7):
        monkeypatch.setattr(tuning, 'best', lambda name, key, x, tiles, launch, i=i: tiles[i % len(tiles)])
        check(x, weight, bias, grad)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize('size', [(5, 7), (51, 35)])
def test_a_kept_tape_is_written_again_where_the_filter_changed_unseen(size, dtype):
    weight = torch.randn(3, 1, *size, dtype=dtype, requires_grad=True)
    tile = tiles.ForwardTile(16, 2, 16, 16, 4, 2)
    transpose = size[0] > size[1]
    shape = toeplitz.geometry(min(size), tiles.window(64, max(size), tile.block_x), tile)

    def tape():
        return toeplitz.tape(weight, torch.float32, shape, True, transpose, keep=True)

    first, expected = tape(), toeplitz._expand(weight, torch.float32, shape, True, transpose)
    assert torch.equal(first, expected) and first is not expected
    first.fill_(7)
    assert tape() is first and (first == 7).all(), 'nothing changed'
    version = weight._version
    weight.data[1, 0, -1, -1] *= -1
    assert weight._version == version
    expected = toeplitz._expand(weight, torch.float32, shape, True, transpose)
    assert torch.equal(tape()[1], expected[1]) and (first[[0, 2]] == 7).all()
    first.fill_(7)
    assert (tape() == 7).all(), 'it is the changed filter that is compared with now'


def test_a_deployed_layer_expands_its_filter_once(monkeypatch):
    choice = importlib.import_module('mmreplk.ops.depthwise_conv2d')
    monkeypatch.setattr(choice, '_choose_backend', lambda *_: 'triton')
    monkeypatch.setattr(choice, '_depthwise_conv2d',
                        lambda x, weight, bias, relu, keep: kernels.forward(x, weight, bias, relu, keep=keep))
    expanded, expand = [], toeplitz._expand
    monkeypatch.setattr(toeplitz, '_expand', lambda *args: expanded.append(args) or expand(*args))
    layer, x = ReparamLargeKernelConv(2, 2, 13, groups=2, deploy=True), torch.randn(1, 2, 9, 20)
    assert all(p.requires_grad for p in layer.parameters())
    torch.nn.init.zeros_(layer.lkb_reparam.bias)
    with torch.no_grad():
        out = layer(x)
        assert torch.equal(layer(x), out) and len(expanded) == 1
        layer.lkb_reparam.weight.data.mul_(2)
        assert torch.equal(layer(x), out * 2) and len(expanded) == 1
        with torch.inference_mode():
            assert torch.equal(layer(x), out * 2) and len(expanded) == 1
    layer(x)
    layer(x)
    assert len(expanded) == 3, 'a filter that may train is expanded for every call'
