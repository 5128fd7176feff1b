"""The Triton kernels in Triton's interpreter, against the reference in float64; ``test_triton.py`` runs this file."""

import dataclasses

import pytest
import torch
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle, interpreter_builder

from mmreplk.ops import reference
from mmreplk.ops import triton as kernels
from mmreplk.ops.triton import cost, descriptors, layout, tiles, trial, tuning

pytestmark = pytest.mark.usefixtures('poisoned_empty', 'bfloat16_products', 'no_unread_sums')

# Relative to the largest value of the reference, for a reduction of 1000 terms; grows with its square root.
# The interpreter truncates to bfloat16 where GPUs round, which takes twice the tolerance.
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 8e-3, torch.float16: 5e-4}
# (N, C, H, W, KH, KW): a block of columns is 16 or 32 wide, a stack of rows 4 or 8 high.
SHAPES = [
    (2, 1, 19, 40, 31, 31),  # several blocks of columns
    (1, 1, 17, 49, 13, 13),  # one column in the last block
    (3, 1, 9, 27, 27, 27),  # the map in one block; smaller than the filter
    (1, 1, 1, 1, 31, 31),
    (2, 1, 5, 16, 3, 3),
    (40, 1, 8, 10, 7, 7),  # several blocks of stacks
    (1, 2, 11, 37, 5, 51),
    (1, 2, 37, 11, 51, 5),  # transposed
    (2, 1, 4, 70, 1, 63),
    (1, 3, 6, 34, 1, 1),
    (1, 1, 2, 40, 3, 127),  # a window wider than 128
]
# (N, C, H, W, KH, KW, DY, DX): dilated, of which networks have 3x3 to 9x9.
DILATED = [
    (2, 2, 19, 40, 3, 3, 7, 7),
    (1, 1, 33, 24, 9, 9, 2, 2),
    (3, 1, 10, 17, 5, 7, 1, 3),  # only in one direction
    (2, 1, 4, 20, 5, 3, 5, 2),  # transposed; further apart than the map is high
]
# Tried with several tiles: several blocks of columns, dilated, and the map in one block.
CANDIDATES = [
    ((2, 1, 19, 40, 13, 13, 1, 1), torch.bfloat16),
    ((2, 1, 21, 24, 5, 5, 2, 3), torch.float16),
    ((1, 2, 9, 31, 11, 11, 1, 1), torch.bfloat16),
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


@pytest.fixture
def no_unread_sums(monkeypatch):
    """The interpreter adds and multiplies integers twice, to find overflows, which only ``debug`` tells."""
    options = interpreter_builder.options
    assert not options.debug
    monkeypatch.setattr(interpreter_builder, 'options', dataclasses.replace(options, sanitize_overflow=False))


def make(shape, dtype=torch.float32):
    n, c, h, w, kh, kw = shape[:6]
    tensors = torch.randn(n, c, h, w), torch.randn(c, 1, kh, kw), torch.randn(c), torch.randn(n, c, h, w)
    return [t.to(dtype) for t in tensors]


def assert_close(actual, expected, terms):
    error, largest = (actual.double() - expected).abs().max(), expected.abs().max()
    assert actual.is_contiguous() and actual.shape == expected.shape
    assert error <= TOLERANCE[actual.dtype] * max(1, terms / 1000)**.5 * largest, f'{error:.1e} of {largest:.1e}'


def spread(weight, dilation):
    """Returns the filter with zeros between its taps, which has no dilation."""
    (kh, kw), (dy, dx) = weight.shape[-2:], dilation
    out = weight.new_zeros(*weight.shape[:2], (kh - 1) * dy + 1, (kw - 1) * dx + 1)
    out[..., ::dy, ::dx] = weight
    return out


def check(x, weight, bias, grad, dilation=(1, 1)):
    check_maps(x, weight, bias, grad, dilation)
    check_filter(x, weight, grad, dilation)


def check_maps(x, weight, bias, grad, dilation):
    terms, wide = weight.shape[-2:].numel(), spread(weight, dilation).double()
    out = reference.forward(x.double(), wide, bias.double())
    assert_close(kernels.forward(x, weight, bias, dilation=dilation), out, terms)
    assert_close(kernels.grad_input(grad, weight, dilation), reference.grad_input(grad.double(), wide), terms)


def check_filter(x, weight, grad, dilation):
    (n, _, h, w), size, (dy, dx) = x.shape, weight.shape[-2:], dilation
    expected = reference.grad_weight(x.double(), grad.double(), spread(weight, dilation).shape[-2:])[..., ::dy, ::dx]
    assert_close(kernels.grad_weight(x, grad, size, dilation), expected, n * h * w)


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_three_passes_agree_with_the_reference(shape):
    check(*make(shape))


@pytest.mark.parametrize('shape', DILATED, ids=str)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_dilation(shape, dtype):
    check(*make(shape, dtype), shape[6:])


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


@pytest.mark.parametrize('dtype', TOLERANCE, ids=str)
@pytest.mark.parametrize('shape', [(2, 2, 11, 37, 7, 7, 1, 1), DILATED[0], DILATED[-1]], ids=str)
def test_relu(shape, dtype):
    x, weight, bias, _ = make(shape, dtype)
    out = reference.forward(x.double(), spread(weight, shape[6:]).double(), bias.double())
    terms = shape[4] * shape[5]
    assert_close(kernels.forward(x, weight, bias, relu=True, dilation=shape[6:]), out.relu(), terms)


def test_filters_of_another_dtype_are_rounded():
    x, weight, *_ = make((1, 2, 9, 17, 5, 5), torch.float16)
    precise = weight + torch.rand(weight.shape) * 1e-5
    assert precise.dtype == torch.float32
    assert torch.equal(kernels.forward(x, precise), kernels.forward(x, precise.half()))


@pytest.mark.parametrize(('shape', 'dtype'), CANDIDATES, ids=str)
def test_every_candidate_tile_computes_the_same(shape, dtype, monkeypatch):
    """Those with tensor descriptors too, which no GPU of the interpreter's has as candidates."""
    (x, weight, bias, grad), tried = make(shape, dtype), set()
    *sizes, dy, dx = shape
    problem = tiles.Problem(*sizes[:3], tiles.round_up(sizes[3], tiles.ALIGN), *sizes[4:], dy, dx, x.element_size())
    for rank, run, operands in [(cost.forward_tiles, check_maps, (x, weight, bias, grad)),
                                (cost.grad_weight_tiles, check_filter, (x, weight, grad))]:
        # Tiles that differ in warps and stages only are one to the interpreter.
        found = {tile._replace(num_warps=4, num_stages=3): tile for tile in rank(problem, cost.GPUS[90])[-7:]}
        assert {tile.descriptors for tile in found} == {False, True}
        for tile in found.values():
            monkeypatch.setattr(tuning, 'best', lambda _, given, *__, tile=tile: tried.add((given, tile)) or tile)
            run(*operands, (dy, dx))
        assert tried == {(problem, tile) for tile in found.values()}
        tried.clear()


def test_every_call_sees_the_filter_as_it_is():
    x, weight, *_ = make((1, 2, 9, 20, 5, 7))
    before = kernels.forward(x, weight)
    weight.data.mul_(2)
    assert torch.equal(kernels.forward(x, weight), 2 * before)


@pytest.mark.parametrize('kernel', ['forward', 'grad_weight'])
def test_the_trial_of_descriptors_finds_a_wrong_result(kernel, monkeypatch):
    right = getattr(descriptors, kernel)

    def wrong(*operands):
        right(*operands)
        operands[3 if kernel == 'forward' else 2].mul_(1.2)  # what it has written

    monkeypatch.setattr(tuning, 'best', tuning.best)  # which the trial replaces
    monkeypatch.setattr(layout, 'gpu_of', lambda t: cost.GPUS[90])
    monkeypatch.setattr(trial, 'SHAPES', [(2, 1, 9, 24, 7), (1, 2, 8, 16, 5)])
    trial.main(kernel, 'cpu')
    monkeypatch.setattr(descriptors, kernel, wrong)
    with pytest.raises(AssertionError, match='is off by 2.0e-01'):
        trial.main(kernel, 'cpu')
