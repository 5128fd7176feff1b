"""Memory formats: those of PyTorch's convolution, in every pass, eager and compiled."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch._prims_common import suggest_memory_format

from mmreplk import RepLKNet
from mmreplk.ops import cpu, depthwise_conv2d, memory_format

pytestmark = pytest.mark.usefixtures('poisoned_empty', 'fast_path_for_small_maps')
FORMATS = {False: torch.contiguous_format, True: torch.channels_last}


def laid_out(t, channels_last):
    return memory_format.laid_out(t, channels_last)


def test_the_format_is_what_pytorch_takes_it_for():
    extents, paddings = (1, 2, 5), (0, 2)
    for n, c, h, w in itertools.product(extents, repeat=4):
        for padding, layout in itertools.product(itertools.product(paddings, repeat=2), FORMATS.values()):
            t = torch.empty(n, c + padding[0], h, w + padding[1]).to(memory_format=layout)[:, :c, :, :w]
            for view in (t, t.mT, t.transpose(0, 1), t[:1].expand(2, -1, -1, -1), t[:, :1].expand(-1, 3, -1, -1)):
                assert memory_format.is_channels_last(view) == (suggest_memory_format(view) == torch.channels_last)


@pytest.mark.parametrize('shape', [(2, 64, 9, 10), (1, 8, 57, 57), (3, 1, 70, 70), (1, 4000, 1, 1), (0, 3, 4, 5)],
                         ids=str)
@pytest.mark.parametrize('threads', [1, 4])
def test_conversion_keeps_values_and_gives_the_strides_of_a_new_tensor(monkeypatch, shape, threads):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
    x = torch.randn(shape)
    for channels_last, layout in FORMATS.items():
        for source in (x, x.to(memory_format=torch.channels_last), x.mT.contiguous().mT):
            out = memory_format.laid_out(source, channels_last)
            assert torch.equal(out, x) and out.stride() == torch.empty(shape, memory_format=layout).stride()
            assert memory_format.empty(x, shape, channels_last).stride() == out.stride()


SHAPES = [(2, 20, 9, 10, 3, 3), (1, 32, 20, 20, 13, 13), (2, 17, 12, 12, 21, 21), (2, 1, 5, 5, 3, 3),
          (2, 4, 1, 1, 3, 3), (1, 4, 1, 5, 5, 1), (1, 1, 1, 1, 3, 3)]


@pytest.mark.parametrize('backend', ['cpu', 'torch', None])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_output_and_gradients_have_the_strides_of_pytorchs(shape, dtype, backend):
    n, c, h, w, kh, kw = shape

    def told(t):
        # Those of axes of size one tell nothing, and PyTorch's differ by dtype; ours are those of its float32.
        return tuple(s for s, size in zip(t.stride(), t.shape, strict=True) if size > 1 or backend == 'cpu')

    for x_last, weight_last, grad_last in itertools.product((False, True), repeat=3):
        inputs = [laid_out(torch.randn(n, c, h, w, dtype=dtype), x_last).requires_grad_(),
                  laid_out(torch.randn(c, 1, kh, kw, dtype=dtype), weight_last).requires_grad_()]
        grad = laid_out(torch.randn(n, c, h, w, dtype=dtype), grad_last)
        strides = []
        for function in (depthwise_conv2d, F.conv2d):
            if function is F.conv2d:
                # Its bfloat16 may not return for a large filter; formats do not depend on the dtype.
                operands = [t.detach().float().requires_grad_() for t in inputs]
                out = F.conv2d(*operands, padding=(kh // 2, kw // 2), groups=c)
            else:
                operands, out = inputs, depthwise_conv2d(*inputs, backend=backend)
            grads = torch.autograd.grad(out, operands, grad.to(out.dtype))
            strides.append([told(t) for t in (out, *grads)])
        assert strides[0][:2] == strides[1][:2]
        if c > 1 and backend == 'cpu':  # of a filter's only channel, any stride is as good
            assert [s[0::2] for s in strides[0][2:]] == [s[0::2] for s in strides[1][2:]]


@pytest.mark.parametrize('options', [dict(dilation=2), dict(dilation=(5, 3)), dict(stride=2, padding=4)], ids=str)
def test_dilated_and_strided_ones_too(options):
    for x_last, weight_last in itertools.product((False, True), repeat=2):
        x = laid_out(torch.randn(2, 20, 12, 13), x_last).requires_grad_()
        weight = laid_out(torch.randn(20, 1, 9, 9), weight_last).requires_grad_()
        out = depthwise_conv2d(x, weight, backend='cpu', **options)
        expected = F.conv2d(x, weight, groups=20, **dict(dict(padding='same'), **options))
        assert out.stride() == expected.stride()
        grad, = torch.autograd.grad(out, x, torch.randn(out.shape))
        assert grad.stride() == torch.autograd.grad(expected, x, torch.randn(out.shape))[0].stride()


class Network(torch.nn.Module):
    """Convolutions around a large one, so that Inductor has layouts to choose."""

    def __init__(self, size):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 32, 3, padding=1)
        self.weight = torch.nn.Parameter(torch.randn(32, 1, size, size) / size)
        self.last = torch.nn.Conv2d(32, 8, 1)

    def forward(self, x):
        large = depthwise_conv2d(self.first(x), self.weight, backend='cpu')
        return large, self.last(large)


@pytest.mark.skipif(not cpu.IS_SUPPORTED, reason='this CPU has no fast path')
@pytest.mark.parametrize('options', [{}, {'freezing': True}, {'layout_optimization': False},
                                     {'freezing': True, 'layout_optimization': False}], ids=str)
@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_compiled_for_inference_strides_are_those_of_eager(dtype, channels_last, options):
    torch._dynamo.reset()
    model, x = Network(15).eval().to(dtype), torch.randn(1, 3, 20, 22).to(dtype)
    if channels_last:
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    with torch.no_grad():
        eager = model(x)
        compiled = torch.compile(model, fullgraph=True, options=options)(x)
    for actual, expected in zip(compiled, eager, strict=True):
        assert actual.stride() == expected.stride()
        torch.testing.assert_close(actual, expected, rtol=2e-2, atol=2e-2 if dtype == torch.bfloat16 else 1e-4)
    assert memory_format.is_channels_last(eager[0]) == channels_last


@pytest.mark.skipif(not cpu.IS_SUPPORTED, reason='this CPU has no fast path')
@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('layout_optimization', [False, True])
def test_compiled_for_training_strides_are_those_of_eager(channels_last, layout_optimization):
    torch._dynamo.reset()
    x = laid_out(torch.randn(2, 20, 12, 13), channels_last).requires_grad_()
    weight = laid_out(torch.randn(20, 1, 15, 15), channels_last).requires_grad_()
    compiled = torch.compile(
        lambda *operands: depthwise_conv2d(*operands, backend='cpu'),
        fullgraph=True,
        options={'layout_optimization': layout_optimization})
    found = []
    for function in (depthwise_conv2d, compiled):
        out = function(x, weight)
        found.append([out, *torch.autograd.grad(out, (x, weight), torch.ones_like(out))])
    for actual, expected in zip(*found, strict=True):
        assert actual.stride() == expected.stride()
        torch.testing.assert_close(actual, expected)


def replknet(stages=4):
    arch = dict(
        large_kernel_sizes=[31, 29, 27, 13][:stages],
        layers=[1] * stages,
        channels=[16, 32, 64, 128][:stages],
        small_kernel=5)
    return RepLKNet(arch, out_indices=range(stages))


@pytest.mark.parametrize('merged', [False, True])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_a_channels_last_network_stays_so_from_stem_to_features(dtype, merged):
    model = replknet().eval()
    if merged:
        model.reparameterize()
    model, torn = model.to(memory_format=torch.channels_last).to(dtype), []

    def look(name):
        def hook(module, inputs, output):
            for t in (*inputs, output):
                if isinstance(t, torch.Tensor) and t.ndim == 4 and not memory_format.is_channels_last(t):
                    torn.append(name)
        return hook

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(look(name))
    x = torch.randn(1, 3, 96, 96).to(dtype).to(memory_format=torch.channels_last)
    with torch.no_grad():
        features = model(x)
    assert not torn
    assert all(memory_format.is_channels_last(f) for f in features)


@pytest.mark.skipif(not cpu.IS_SUPPORTED, reason='this CPU has no fast path')
def test_a_channels_last_network_in_bfloat16_compiles():
    torch._dynamo.reset()
    model = replknet(stages=1).eval()
    model.reparameterize(fuse_bn=True)
    model = model.to(memory_format=torch.channels_last).bfloat16()
    x = torch.randn(1, 3, 64, 64).bfloat16().to(memory_format=torch.channels_last)
    with torch.no_grad():
        for actual, expected in zip(torch.compile(model)(x), model(x), strict=True):
            assert actual.stride() == expected.stride()
            error = (actual.float() - expected.float()).abs().max() / expected.float().abs().max()
            assert error < 5e-2
