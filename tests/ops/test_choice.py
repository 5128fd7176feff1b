"""Which backend is chosen, on this machine and on others, and why another one is not."""

import contextlib
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses import FakeTensorMode

from mmreplk import ops
from mmreplk.ops import choice, cpu, depthwise_conv2d, operands
from mmreplk.ops.cpu import compiled, costs, facts

from .operands import make

pytestmark = pytest.mark.usefixtures('poisoned_empty', 'fast_path_for_small_maps')


@pytest.fixture
def on_avx512(monkeypatch):
    """What is predicted of a processor with AVX-512, calls included, wherever the test runs."""
    monkeypatch.setattr(facts, 'WIDEST_FORWARD', 13)
    monkeypatch.setattr(facts, 'HAS_FOURIER', True)
    monkeypatch.setattr(cpu, 'IS_SUPPORTED', True)
    monkeypatch.setattr(costs, 'PROCESSOR', 'AVX512')
    monkeypatch.setattr(costs, 'OVERHEAD', 0.015)
    monkeypatch.setattr(costs, 'OVERHEAD_OF_GRADIENT', 0.04)
    costs.cheapest.cache_clear()
    yield
    costs.cheapest.cache_clear()


def chosen(x, weight, **options):
    kernel_size = tuple(weight.shape[2:])
    geometry = operands.geometry_of(kernel_size, **dict(dict(stride=1, padding='same', dilation=1), **options))
    return choice.choose_backend(x, weight, kernel_size, geometry)


@pytest.mark.parametrize(('size', 'trains', 'least'), [(31, False, 4e5), (31, True, 1.3e6), (5, True, 1.3e6)])
def test_small_maps_are_left_to_pytorch_where_sizes_may_be_symbols(monkeypatch, size, trains, least):
    monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    monkeypatch.setattr(cpu, 'SMALLEST_WORK', {False: 4e5, True: 1.3e6})
    monkeypatch.setattr(facts, 'WIDEST_FORWARD', 13)
    channels = math.ceil(least / size**2 / 100) - 1
    for c, expected in ((channels, 'torch'), (channels + 1, 'cpu')):
        x, weight = torch.empty(1, c, 10, 10), torch.empty(c, 1, size, size, requires_grad=trains)
        assert chosen(x, weight) == expected


@pytest.mark.parametrize('trains', [False, True])
@pytest.mark.parametrize('kernel_size', [(31, 31), (5, 49), (1, 21)], ids=str)
def test_small_maps_are_left_to_pytorch(monkeypatch, on_avx512, kernel_size, trains):
    def chosen_for(channels, size):
        weight = torch.empty(channels, 1, *kernel_size, requires_grad=trains)
        return chosen(torch.empty(1, channels, size, size), weight)

    assert chosen_for(2, 4) == 'torch' and chosen_for(256, 28) == 'cpu'


def test_tall_kernels_of_few_columns_are_left_to_pytorch(on_avx512, monkeypatch):
    """oneDNN's forward is limited in columns only, and of the gradients PyTorch computes up to three fast."""
    monkeypatch.setattr(compiled, 'library', lambda: None)

    def chosen_for(kh, kw, trains=False):
        return chosen(torch.empty(1, 124, 56, 56), torch.empty(124, 1, kh, kw, requires_grad=trains))

    assert chosen_for(51, 5) == chosen_for(21, 1) == chosen_for(21, 1, trains=True) == 'torch'
    assert chosen_for(5, 51) == chosen_for(1, 21) == chosen_for(1, 21, trains=True) == 'cpu'
    assert chosen_for(51, 5, trains=True) == 'cpu'


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('shape', [(8, 256, 16, 16), (1, 64, 128, 128)], ids=str)
def test_kernels_of_one_tap_are_left_to_pytorch(monkeypatch, on_avx512, shape, dtype):
    monkeypatch.setattr(facts, 'SLOW_DTYPES', set())
    x, weight = torch.empty(shape, dtype=dtype), torch.empty(shape[1], 1, 1, 1, dtype=dtype, requires_grad=True)
    assert chosen(x, weight) == 'torch'


def test_what_pytorch_computes_slowly_on_a_cpu_takes_the_fast_path(monkeypatch):
    monkeypatch.setattr(facts, 'IS_SUPPORTED', True)
    monkeypatch.setattr(costs, 'OVERHEAD', math.inf)
    monkeypatch.setattr(facts, 'SLOW_DTYPES', {torch.float16})

    def chosen_for(dtype, **options):
        x, weight, _ = make((1, 2, 9, 9, 3, 3), dtype)
        return chosen(x, weight, **options)

    assert chosen_for(torch.float16) == chosen_for(torch.float16, stride=2, padding=1) == 'cpu'
    assert chosen_for(torch.bfloat16) == chosen_for(torch.float32) == 'torch'
    with torch.autocast('cpu', torch.float16):
        assert chosen_for(torch.float32) == 'cpu'
        assert chosen_for(torch.float64) == 'torch'
    with torch.autocast('cpu', torch.bfloat16):
        assert chosen_for(torch.float16) == 'torch'


@pytest.mark.parametrize('lays_out', ['x', 'weight'])
def test_what_pytorch_may_never_return_from_takes_the_fast_path(monkeypatch, lays_out):
    monkeypatch.setattr(facts, 'IS_SUPPORTED', True)
    monkeypatch.setattr(facts, 'WIDEST_FORWARD', 13)
    monkeypatch.setattr(facts, 'SLOW_DTYPES', set())
    monkeypatch.setattr(costs, 'OVERHEAD', math.inf)

    def chosen_for(dtype, size, layout, channels=5):
        x, weight = torch.randn(1, channels, 20, 32, dtype=dtype), torch.randn(channels, 1, size, size, dtype=dtype)
        if lays_out == 'x':
            x = x.to(memory_format=layout)
        else:
            weight = weight.to(memory_format=layout)
        return chosen(x, weight)

    assert chosen_for(torch.bfloat16, 15, torch.channels_last) == 'cpu'
    assert chosen_for(torch.bfloat16, 15, torch.contiguous_format) == 'torch'
    assert chosen_for(torch.float32, 15, torch.channels_last) == chosen_for(torch.bfloat16, 13, torch.channels_last) \
        == chosen_for(torch.bfloat16, 15, torch.channels_last, 17) == 'torch'
    with torch.autocast('cpu', torch.bfloat16):
        assert chosen_for(torch.float32, 15, torch.channels_last) == 'cpu'


def test_what_pytorch_gets_wrong_takes_the_fast_path(monkeypatch):
    monkeypatch.setattr(facts, 'IS_SUPPORTED', True)
    monkeypatch.setattr(facts, 'SLOW_DTYPES', set())
    monkeypatch.setattr(costs, 'OVERHEAD', math.inf)
    x, weight = torch.randn(1, 5, 27, 30).bfloat16(), torch.randn(5, 1, 4, 4).bfloat16().requires_grad_()
    options = dict(dilation=4, padding=6)
    last = x.to(memory_format=torch.channels_last)
    assert chosen(last, weight, **options) == 'cpu'
    assert chosen(x, weight, **options) == chosen(last.float(), weight, **options) == 'torch'
    assert chosen(last, weight.detach(), **options) == chosen(last, weight, stride=2, padding=2) == 'torch'


def test_choice_on_a_gpu(monkeypatch, caplog):
    choice._log_once.cache_clear()
    monkeypatch.setattr(choice, 'TRITON_PROBLEM', None)
    monkeypatch.setattr(torch.version, 'hip', None)
    monkeypatch.setattr(choice, '_fault_of_triton', lambda device: fault[0])
    capability, fault = SimpleNamespace(major=8), [None]
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: capability)

    def on_gpu(dtype=torch.bfloat16, shape=(8, 3, 80, 80)):
        return SimpleNamespace(
            is_cuda=True, requires_grad=False, device=torch.device('cuda:0'), dtype=dtype, shape=shape,
            numel=lambda: math.prod(shape))

    def chosen_for(size, dtype=torch.bfloat16, **options):
        return chosen(on_gpu(dtype), torch.empty(3, 1, size, size), **options)

    assert chosen_for(31) == chosen_for(31, dilation=2) == 'triton' and chosen_for(3) == 'torch'
    assert not caplog.records
    for _ in range(2):
        assert chosen_for(31, stride=2) == chosen_for(31, dtype=torch.float64) == 'torch'
    assert [record.message.split(': it needs ')[1].split()[0] for record in caplog.records] == ['odd', 'float32,']
    geometry = operands.geometry_of((31, 31), 1, 'same', 1)
    assert choice.why_not('triton', on_gpu(), geometry) is choice.why_not('torch', on_gpu(), geometry) is None
    assert choice.why_not('cpu', on_gpu(), geometry) == 'the input is on cuda:0'
    for shape in (1, 3, 2**15, 2**17), (1, 3, 2**31, 1), (2**20, 2**11, 1, 1), (2**21, 1, 2, 2**10):
        assert 'below 2^31, got (' in choice.why_not('triton', on_gpu(shape=shape), geometry), shape
    assert choice.why_not('triton', on_gpu(shape=(2**12, 2**10, 2**8, 2**8)), geometry) is None, 'in all'
    assert chosen_for(481) == 'triton' and chosen_for(483) == chosen_for(31, dilation=17) == 'torch'
    assert 'at most 240 pixels to each side, got 241' in caplog.messages[-2]
    del caplog.records[2:]
    fault[0] = 'Triton does not work here: RuntimeError: Failed to find C compiler'
    for _ in range(2):
        assert chosen_for(31) == 'torch'
    assert [fault[0] in record.message for record in caplog.records] == [False, False, True]
    capability.major = 7
    assert 'compute capability 8.0 or higher' in choice.why_not('triton', on_gpu(), geometry)

def test_why_triton_does_not_work_is_found_by_one_try(monkeypatch):
    tries = []

    def forward(*arguments):
        tries.append(arguments)
        raise RuntimeError('Failed to find C compiler.\nPlease specify via CC')

    monkeypatch.setitem(sys.modules, 'mmreplk.ops.triton', SimpleNamespace(forward=forward))
    monkeypatch.setattr(ops, 'triton', sys.modules['mmreplk.ops.triton'], raising=False)
    monkeypatch.setattr(torch.cuda, 'device', lambda device: contextlib.nullcontext())
    choice._tried.cache_clear()
    for _ in range(2):
        assert choice._fault_of_triton(torch.device('cpu')) == \
            'Triton does not work here: RuntimeError: Failed to find C compiler.'
    assert len(tries) == 1
    choice._tried.cache_clear()


@pytest.mark.parametrize('backend', ['cpu', 'triton'])
def test_what_a_machine_lacks_is_what_a_call_is_refused_for(backend, monkeypatch):
    monkeypatch.setattr(cpu, 'IS_SUPPORTED', False)
    monkeypatch.setattr(choice, 'TRITON_PROBLEM', 'Triton is not installed')
    reason = ops.backends()[backend]
    with FakeTensorMode():  # a GPU that need not be there
        x, weight = (torch.empty(shape, device='cpu' if backend == 'cpu' else 'cuda')
                     for shape in ((1, 8, 32, 32), (8, 1, 13, 13)))
        with pytest.raises(ValueError, match=f'^backend {backend!r} cannot compute this: {reason}$'):
            depthwise_conv2d(x, weight, backend=backend)


def test_backends_of_a_machine(monkeypatch):
    monkeypatch.setattr(choice, 'TRITON_PROBLEM', None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert ops.backends()['torch'] is None
    assert ops.backends()['triton'] == 'PyTorch finds no GPU that it can use'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 1)
    monkeypatch.setattr(choice, '_fault_of_triton', lambda gpu: f'asked of {gpu}')
    for major, reason in ((7, 'it needs an NVIDIA GPU of compute capability 8.0 or higher'), (8, 'asked of cuda:1')):
        monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda _, major=major: SimpleNamespace(major=major))
        assert ops.backends()['triton'] == reason
