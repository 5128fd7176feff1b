import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmreplk import packing
from mmreplk.layers import LargeKernelConv2d, packed
from mmreplk.layers.packed import PackedMLP, Residual, pack_convolution
from mmreplk.ops.cpu import costs, ways
from mmreplk.ops.cpu import packed as operators

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # of the largest value
pytestmark = pytest.mark.skipif(operators.why_not(torch.float32) is not None, reason='nothing is packed on this CPU')
DTYPES = [dtype for dtype in TOLERANCE if operators.why_not(dtype) is None]


def assert_close(actual, expected):
    assert actual.shape == expected.shape
    error = (actual.double() - expected).abs().max() / expected.abs().max()
    assert error <= TOLERANCE[actual.dtype], error


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request):
    return request.param


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize('activation', [None, 'relu', 'gelu', 'gelu_tanh'])
@pytest.mark.parametrize('options', [
    dict(kernel_size=1), dict(kernel_size=1, bias=False), dict(kernel_size=1, stride=2), dict(kernel_size=1, padding=1),
    dict(kernel_size=3, padding=1), dict(kernel_size=(5, 3), padding=(2, 1), stride=(2, 1), dilation=(1, 2)),
    dict(kernel_size=3, groups=3), dict(kernel_size=3, padding='valid', groups=9)
], ids=str)
def test_convolutions(options, activation, dtype):
    conv = nn.Conv2d(9, 18, **options).to(dtype)
    after = dict(relu=F.relu, gelu=F.gelu, gelu_tanh=lambda x: F.gelu(x, approximate='tanh')).get(activation)
    for size in ((2, 9, 11, 8), (1, 9, 5, 7)):
        x = torch.randn(size).to(dtype)
        expected = nn.Conv2d.forward(conv.double(), x.double())
        form = pack_convolution(conv.to(dtype), activation)
        for laid_out in (x, x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT):
            out = form(laid_out)
            assert out.is_contiguous(memory_format=torch.channels_last)
            assert_close(out, after(expected) if after else expected)


@pytest.mark.parametrize('pixels', [7, 60, 1000])
@pytest.mark.parametrize('is_residual', [False, True])
def test_an_mlp_is_computed_part_by_part(pixels, is_residual, dtype, monkeypatch):
    monkeypatch.setattr(packed, 'HIDDEN', 20 * pixels)
    first, second = nn.Conv2d(8, 20, 1).to(dtype), nn.Linear(20, 8, bias=False).to(dtype)
    form, x = PackedMLP(first, 'gelu', second), torch.randn(2, 8, 6, 5).to(dtype)
    rows = x.double().permute(0, 2, 3, 1)
    expected = F.linear(F.gelu(F.linear(rows, first.weight.double()[:, :, 0, 0], first.bias.double())),
                        second.weight.double()).permute(0, 3, 1, 2)
    if is_residual:
        assert_close(Residual([], form)(x), expected + x.double())
    else:
        assert_close(form(x), expected)


@pytest.mark.parametrize('kernel_size', [3, 5, 7, 13, 31, (51, 5), (5, 51), 1])
@pytest.mark.parametrize('channels', [5, 32])
@pytest.mark.parametrize('activation', [None, 'relu'])
def test_large_kernels_of_maps_whose_size_changes(kernel_size, channels, activation, dtype):
    conv = LargeKernelConv2d(channels, channels, kernel_size, padding='same', groups=channels).to(dtype)
    form = conv.packed(nn.ReLU() if activation else None)
    for size in ((1, channels, 40, 33), (2, channels, 9, 12), (1, channels, 40, 33), (1, channels, 1, 3)):
        x = torch.randn(size).to(dtype)
        expected = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding='same', groups=channels)
        out = form(x)
        assert_close(out, expected if activation is None else expected.relu())
        assert out.dtype == dtype


@pytest.mark.parametrize('options', [
    dict(kernel_size=17, padding=3), dict(kernel_size=9, padding=8, dilation=2),
    dict(kernel_size=(4, 20), padding='same'), dict(kernel_size=15, padding=7, stride=2),
    dict(kernel_size=15, padding='same', padding_mode='reflect')
], ids=str)
@pytest.mark.parametrize('channels', [1, 16])
def test_large_kernels_of_another_geometry_are_left_to_the_operator(options, channels, dtype):
    conv = LargeKernelConv2d(channels, channels, groups=channels, **options).to(dtype)
    x = torch.randn(1, channels, 24, 25)
    expected = nn.Conv2d.forward(conv.double(), x.double())
    assert conv.to(dtype).packed() is conv
    assert_close(conv.packed(nn.ReLU())(x.to(dtype)), expected.relu())
    assert not packed.can_pack(nn.Conv2d(channels, channels, groups=channels, **options))


@pytest.mark.parametrize('kernel', ['direct', 'forward', 'transposed', 'fourier'])
@pytest.mark.parametrize('channels_last', [False, True])
def test_a_large_kernel_by_each_way(kernel, channels_last, dtype, monkeypatch):
    conv = LargeKernelConv2d(32, 32, (9, 21), padding='same', groups=32).to(dtype)
    x = torch.randn(2, 32, 30, 26).to(dtype)
    expected = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding='same', groups=32).relu()
    problem = ways.Problem(2, 32, 30, 26, 9, 21, dtype, True, True)
    found = [way for way in ways.convolving(problem) if way[:2] == (kernel, channels_last)]
    for way in found:
        monkeypatch.setattr(costs, 'cheapest_prepared', lambda problem, way=way: way)
        form = conv.packed(nn.ReLU())
        assert_close(form(x), expected)
        assert_close(form(x), expected)  # with what is kept of the filter
    assert found or (kernel, channels_last) in {('forward', False), ('fourier', True)}


@pytest.mark.parametrize(('share', 'is_chosen'), [(0.5, True), (2, False)])
def test_the_transform_of_the_filter_costs_nothing_once_it_is_kept(share, is_chosen, monkeypatch):
    problem = ways.Problem(1, 256, 64, 64, 29, 29, torch.float32, True, True)
    name, work = costs.price_name('convolve', problem, ways.FOURIER), (1, 1, costs._fourier_work(problem)[2], 1)
    monkeypatch.setattr(costs, 'PRICES', {costs.PROCESSOR: {name: (0, 0, 1, 0)}})
    prices = {ways.FOURIER: 1 + share * work[2]}
    monkeypatch.setattr(costs, 'cost', lambda what, problem, way: prices.get(way, 1))
    monkeypatch.setattr(ways, 'convolving', lambda problem: [ways.Way('forward', True, torch.float32), ways.FOURIER])
    costs.cheapest_prepared.cache_clear()
    expected = prices[ways.FOURIER] - work[2] < 1
    assert (costs.cheapest_prepared(problem) == ways.FOURIER) is expected is is_chosen


def test_other_modules_keep_what_they_may_look_into():

    class Scaled(nn.Module):

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.layers = nn.Sequential(nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 1, padding_mode='reflect'))

        def forward(self, x):
            return self.layers(F.conv2d(x, self.conv.weight * 2))

    model, x = Scaled(), torch.randn(1, 3, 8, 9)
    expected = model(x)
    form = packed.packed(model)
    torch.testing.assert_close(form(x), expected)
    assert [type(m) for m in form.layers] == [packed.PackedConv2d, nn.ReLU, nn.Conv2d] and type(form.conv) is nn.Conv2d


def test_what_cannot_be_packed_is_said_once_and_computed_as_it_is(monkeypatch, caplog):
    monkeypatch.setattr(packing, 'why_not', lambda dtype: 'there is no oneDNN')
    packing._log_once.cache_clear()
    caplog.set_level(logging.WARNING, logger='mmreplk')
    for _ in range(2):
        model, x = nn.Sequential(nn.Conv2d(3, 4, 1)), torch.randn(1, 3, 8, 9)
        expected = model(x)
        assert torch.equal(packing.inference_form(model, packed.packed, None)(x), expected)
    assert caplog.messages == ['Layers are not packed for inference: there is no oneDNN.']
    packing._log_once.cache_clear()


@pytest.mark.parametrize('change', ['missing', 'raises', 'wrong', 'contiguous'])
def test_private_operators_are_tried_before_they_are_used(change, monkeypatch):
    true = operators.PackedConvolution.__call__
    changed = dict(
        missing=lambda self, x: torch.ops.mkldnn._no_such_operator(x), raises=lambda self, x: true(self, x, 1),
        wrong=lambda self, x: true(self, x) + 1, contiguous=lambda self, x: true(self, x).contiguous())[change]
    monkeypatch.setattr(operators.PackedConvolution, '__call__', changed)
    operators.why_not.cache_clear()
    assert operators.why_not(torch.float32)
    operators.why_not.cache_clear()
    monkeypatch.undo()
    assert operators.why_not(torch.float32) is None
    assert 'float32 or bfloat16' in operators.why_not(torch.float64)
