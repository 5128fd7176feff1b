"""The ways of convolving on a CPU, each on its own, and the choice among them."""

import itertools
import random
import re
import threading

import pytest
import torch

from mmreplk.ops import cpu, depthwise_conv2d, memory_format, reference, tuning
from mmreplk.ops.cpu import compiled, costs, facts, fourier, onednn, same, ways
from mmreplk.ops.cpu.prices import PRICES
from mmreplk.ops.cpu.ways import Problem, Way

from .operands import SHAPES, assert_close, make

pytestmark = [
    pytest.mark.usefixtures('poisoned_empty', 'fast_path_for_small_maps'),
    pytest.mark.skipif(not cpu.IS_SUPPORTED, reason='needs AVX2: elsewhere PyTorch computes'),
]


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('shape', [*(s for s in SHAPES if s[2] > 1), (3, 40, 33, 70, 51, 51)], ids=str)
def test_every_way_agrees_with_the_reference(monkeypatch, shape, dtype):
    monkeypatch.setattr(fourier, 'SCRATCH', 5e4)
    monkeypatch.setattr(onednn, 'SCRATCH', 5e4)
    n, _, h, w, kh, kw = shape
    x, weight, bias = (t.detach() for t in make(shape, dtype))
    xd, wd, bd = x.double(), weight.double(), bias.double()
    forward, grad_input = reference.forward(xd, wd, bd), reference.grad_input(xd, wd)
    grad_weight = reference.grad_weight(xd, xd, (kh, kw))
    problem = Problem(*shape, dtype, False, False)
    for x_last, wants_last in itertools.product((False, True), repeat=2):
        own = memory_format.laid_out(x, x_last)
        for way in ways.convolving(problem):
            assert_close(same.convolve_by(way, own, weight, bias, (1, 1), False, wants_last), forward, kh * kw)
            assert_close(same.convolve_by(way, own, weight, None, (1, 1), True, wants_last), grad_input, kh * kw)
        for way in ways.grad_weight(problem):
            assert_close(same.grad_weight_by(way, own, x, (kh, kw), (1, 1)), grad_weight, n * h * w)


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_a_cpu_without_instructions_for_bfloat16(monkeypatch, shape):
    monkeypatch.setattr(facts, 'HAS_BFLOAT16', False)
    costs.cheapest.cache_clear()
    x, weight, bias = (t.detach() for t in make(shape, torch.bfloat16))
    xd, wd, taps = x.double(), weight.double(), shape[-2] * shape[-1]
    out = same.convolve(x, weight, bias, (1, 1), False, False)
    assert_close(out, reference.forward(xd, wd, bias.double()), taps)
    assert_close(same.convolve(x, weight, None, (1, 1), True, False), reference.grad_input(xd, wd), taps)
    costs.cheapest.cache_clear()


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('size', [(3, 3), (7, 7), (9, 5), (1, 9)], ids=str)
@pytest.mark.parametrize('dilation', [(2, 2), (5, 5), (7, 3), (1, 4), (10, 3)], ids=str)
def test_dilated_kernels_agree_with_a_filter_of_zeros_between(size, dilation, dtype):
    (kh, kw), (dy, dx) = size, dilation
    x, grad, weight = torch.randn(2, 17, 19, 23), torch.randn(2, 17, 19, 23), torch.randn(17, 1, kh, kw)
    x, grad, weight = (t.to(dtype) for t in (x, grad, weight))
    spread = torch.zeros(17, 1, dy * (kh - 1) + 1, dx * (kw - 1) + 1, dtype=torch.float64)
    spread[..., ::dy, ::dx] = weight
    geometry = (1, 1), (dy * (kh // 2), dx * (kw // 2)), dilation
    for channels_last in (False, True):
        own = memory_format.laid_out(x, channels_last)
        out = cpu.forward(own, weight, None, *geometry, channels_last)
        assert_close(out, reference.forward(x.double(), spread), kh * kw)
        out = cpu.grad_input(grad, weight, (19, 23), *geometry, channels_last)
        assert_close(out, reference.grad_input(grad.double(), spread), kh * kw)
        out = cpu.grad_weight(own, grad, size, *geometry, channels_last)
        expected = reference.grad_weight(x.double(), grad.double(), tuple(spread.shape[2:]))[..., ::dy, ::dx]
        assert_close(out, expected, 2 * 19 * 23)


def test_taps_that_never_meet_the_map_cost_nothing_and_have_no_gradient():
    x, weight, _ = make((2, 3, 4, 6, 31, 9))
    out = depthwise_conv2d(x, weight)
    out.sum().backward()
    margins, inside = Problem(2, 3, 4, 6, 31, 9, torch.float32, False, False).inside()
    assert margins == (12, 0) and inside[:6] == (2, 3, 4, 6, 7, 9)
    dilated = Problem(2, 3, 14, 14, 9, 7, torch.float32, False, False, 7, 3)
    assert dilated.inside() == ((3, 0), dilated._replace(kh=3))
    met = torch.zeros(31, 9, dtype=torch.bool)
    met[12:19] = True
    assert (weight.grad[..., ~met] == 0).all() and (weight.grad[..., met] != 0).any()
    assert_close(out.detach(), reference.forward(x.detach().double(), weight.detach().double()), 279)


def test_transforms_are_as_short_as_they_may_be():
    cases = (128, 31, 2), (64, 29, 1), (64, 29, 2), (9, 51, 1), (1, 31, 2)
    assert [fourier.transform_length(*case) for case in cases] == [144, 80, 80, 54, 32]
    # Of the three rows and columns of taps, the first and the last output of four meet two.
    assert costs.taps_inside(4, 3) == 10


def test_every_way_has_its_price_on_every_processor():
    for processor, prices in PRICES.items():
        dtypes = (torch.float32,) if processor == 'AVX2' else (torch.float32, torch.bfloat16)
        formats = list(itertools.product((False, True), dtypes))
        names = {f'convolve {Way(kernel, *kind)}' for kernel in ('forward', 'transposed') for kind in formats}
        names |= {f'dilated convolve {Way(kernel, *kind)}' for kernel in ('forward', 'transposed') for kind in formats}
        names |= {f'grad_weight {Way(kernel, False, torch.float32)}' for kernel in ('transposed', 'pytorch')}
        names |= {f'{what} {Way("pytorch", True, torch.float32)}' for what in ('grad_weight', 'dilated grad_weight')}
        names |= {f'{what} {ways.FOURIER}' for what in ('convolve', 'grad_weight')}
        names |= {f'dilated grad_weight {Way("pytorch", False, dtype)}' for dtype in dtypes}
        passes = 'convolve', 'dilated convolve', 'grad_weight', 'narrow grad_weight'
        formats = itertools.product((False, True), (torch.float32, torch.bfloat16))
        names |= {f'{what} {Way("direct", *kind)}' for what, kind in itertools.product(passes, formats)}
        names |= {'cast', 'lay out float32', 'lay out bfloat16', *(f'im2col {str(d)[6:]}' for d in dtypes)}
        assert names <= set(prices), processor
        for name, price in prices.items():
            problem = Problem(2, 64, 32, 32, 13, 5, torch.float32, False, False)
            if name.startswith('lay out'):
                parts = costs.laying_out_work(problem)
            elif name.startswith('im2col'):
                parts = costs.im2col_work(problem)
            elif name != 'cast':
                what, kernel, layout, dtype = re.sub('^(dilated|narrow) ', '', name).split()
                way = Way(kernel, layout == 'channels_last', getattr(torch, dtype))
                dilation = 1 if name[0] in 'cg' else 2
                parts = costs.work(what, problem._replace(dtype=way.dtype, dy=dilation, dx=dilation), way)
            else:
                parts = 1e4, 1
            assert len(parts) == len(price) and all(p >= 0 for p in price) and any(price)


@pytest.mark.parametrize('processor', PRICES)
def test_what_is_chosen_where_nothing_is_close(monkeypatch, processor):
    monkeypatch.setattr(costs, 'PROCESSOR', processor)
    monkeypatch.setattr(facts, 'HAS_FOURIER', True)
    costs.cheapest.cache_clear()

    def kernel(what, *shape):
        return costs.cheapest(what, Problem(*shape, torch.float32, False, False)).kernel

    assert kernel('convolve', 1, 128, 128, 128, 51, 51) == kernel('grad_weight', 1, 128, 128, 128, 51, 51) == 'fourier'
    assert kernel('convolve', 8, 256, 14, 14, 3, 3) != 'fourier'
    assert kernel('convolve', 8, 256, 64, 64, 13, 13) == kernel('grad_weight', 1, 256, 32, 32, 13, 13) == 'direct'
    costs.cheapest.cache_clear()
    monkeypatch.setattr(compiled, 'library', lambda: None)
    assert kernel('grad_weight', 8, 256, 28, 28, 7, 7) == 'transposed'
    costs.cheapest.cache_clear()


def test_pytorchs_channels_last_forward_is_left_alone_where_it_is_as_fast(monkeypatch):
    monkeypatch.setattr(costs, 'OVERHEAD', 0.01)

    def is_slow(size, extent, channels_last, dtype=torch.float32):
        problem = Problem(1, 64, extent, extent, size, size, dtype, channels_last, channels_last)
        return costs.is_slow_in_pytorch(problem, False, False)

    assert is_slow(15, 16, False) and is_slow(51, 128, False)
    assert is_slow(51, 128, True), 'Fourier transforms'
    assert not is_slow(3, 64, True)
    monkeypatch.setattr(costs, 'OVERHEAD', 1.0)
    assert not is_slow(5, 16, True), 'calling our operator takes longer than what it gains'


def test_a_conversion_counts(monkeypatch):
    monkeypatch.setattr(costs, 'PRICES', {costs.PROCESSOR: {
        'convolve forward channels_last float32': (0,) * 14, 'convolve transposed contiguous float32': (0,) * 14,
        'lay out float32': (0, 1.0, 0, 0, 0)}})
    problem = Problem(1, 32, 10, 10, 31, 31, torch.float32, False, False)
    costs.cheapest.cache_clear()
    own = costs.cost('convolve', problem, Way('transposed', False, torch.float32))
    last = costs.cost('convolve', problem, Way('forward', True, torch.float32))
    kept = costs.cost('convolve', problem._replace(channels_last=True, wants_channels_last=True),
                      Way('forward', True, torch.float32))
    assert own == 0 and last - kept == 2 * 32 * 100 * (torch.get_num_threads() if torch.get_num_threads() < 3 else 1)


def test_a_tuned_choice_is_measured_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv('MMREPLK_AUTOTUNE', '1')
    monkeypatch.setenv('MMREPLK_CACHE', str(tmp_path))
    timed, seconds = [], tuning.seconds
    monkeypatch.setattr(tuning, 'seconds', lambda run: timed.append(run) or seconds(run))
    x, weight, _ = make((1, 4, 23, 23, 15, 15))
    out = depthwise_conv2d(x, weight)
    grads = torch.autograd.grad(out, (x, weight), torch.ones_like(out))
    assert_close(out.detach(), reference.forward(x.detach().double(), weight.detach().double()), 225)
    assert_close(grads[1], reference.grad_weight(x.detach().double(), torch.ones(out.shape).double(), (15, 15)), 529)
    count = len(timed)
    assert count >= 6
    depthwise_conv2d(x, weight)
    depthwise_conv2d(x[..., :-1], weight.detach())  # of the same class
    assert len(timed) == count
    tuning._known.clear()
    depthwise_conv2d(x, weight.detach())
    assert len(timed) == count, 'from disk'


def test_autocast_is_each_threads_own(monkeypatch):
    """Two threads inside the operator at once, one under autocast, both have their own switch back afterwards."""
    inside, entered = threading.Barrier(2, timeout=30), []
    convolve = same.convolve

    def slowly(*arguments):
        entered.append(torch.is_autocast_enabled('cpu'))
        inside.wait()
        out = convolve(*arguments)
        inside.wait()
        return out

    monkeypatch.setattr(same, 'convolve', slowly)
    x, weight, found = torch.randn(1, 4, 20, 20), torch.randn(4, 1, 15, 15), {}

    def work(name, enabled):
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            for _ in range(3):
                out = depthwise_conv2d(x, weight)
                found.setdefault(name, []).append((out.dtype, torch.is_autocast_enabled('cpu')))
        found[name].append(torch.is_autocast_enabled('cpu'))

    threads = [threading.Thread(target=work, args=args) for args in (('on', True), ('off', False))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entered == [False] * 6
    assert found == dict(on=[(torch.bfloat16, True)] * 3 + [False], off=[(torch.float32, False)] * 3 + [False])


def test_random_problems_have_a_right_way():
    rng = random.Random(0)
    for _ in range(200):
        dtype = rng.choice([torch.float32, torch.bfloat16, torch.float16])
        shape = [rng.choice([1, 2, 3, 16, 17, 31, 64, 200]) for _ in range(4)]
        size = [rng.choice([1, 3, 13, 15, 49, 51, 63]) for _ in range(2)]
        problem = Problem(*shape, *size, dtype, rng.random() < .5, rng.random() < .5)
        way = costs.cheapest('convolve', problem)
        assert way in ways.convolving(problem)
        never_returns = dtype == way.dtype == torch.bfloat16 and way.kernel == 'forward' and way.channels_last
        assert not (never_returns and problem.c <= 16 and size[1] > facts.WIDEST_FORWARD)
        way = costs.cheapest('grad_weight', problem)
        assert way.kernel != 'pytorch' or (max(size) <= facts.LARGEST_SOUND and dtype not in facts.SLOW_DTYPES)
