"""The operator on a real GPU, against the reference in float64."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mmreplk.ops import choice, depthwise_conv2d, memory_format, reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA GPU'),
    pytest.mark.usefixtures('poisoned_empty', 'on_triton'),
]

# Relative to the largest value of the reference, for a reduction of 1000 terms; grows with its square root.
TOLERANCE = {'float32': 2e-6, 'tf32': 2e-3, 'bfloat16': 4e-3, 'float16': 5e-4}
# (N, C, H, W, KH, KW)
SHAPES = [
    (2, 128, 128, 128, 31, 31),
    (2, 256, 64, 64, 29, 29),
    (2, 512, 32, 32, 27, 27),
    (2, 1024, 16, 16, 13, 13),
    (1, 7, 57, 75, 31, 31),
    (3, 5, 9, 20, 27, 27),
    (1, 1, 1, 1, 31, 31),
    (70, 3, 14, 14, 9, 9),
    (1, 16, 43, 51, 51, 5),
    (1, 16, 43, 51, 5, 51),
    (2, 4, 80, 80, 63, 63),
    (2, 6, 40, 72, 63, 1),
    (2, 6, 40, 72, 1, 63),
    (2, 6, 40, 72, 31, 3),
]
# (N, C, H, W, KH, KW, DY, DX): UniRepLKNet's dilated branches, and others.
DILATED = [
    (2, 160, 64, 64, 3, 3, 7, 7),
    (2, 96, 56, 56, 9, 9, 2, 2),
    (3, 5, 19, 30, 5, 7, 1, 3),
    (2, 3, 9, 40, 5, 3, 4, 2),
]
# Bytes that the test of maps beyond 32-bit offsets takes at most.
HUGE_BYTES = 40e9


@pytest.fixture(params=TOLERANCE)
def precision(request, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', request.param == 'tf32')
    return request.param


def dtype_of(precision):
    return torch.float32 if precision == 'tf32' else getattr(torch, precision)


def make(shape, dtype=torch.bfloat16):
    n, c, h, w, kh, kw = shape[:6]
    shapes = (n, c, h, w), (c, 1, kh, kw), (c,)
    return [torch.randn(s, device='cuda', dtype=dtype, requires_grad=True) for s in shapes]


def assert_close(actual, expected, terms, precision='bfloat16'):
    error = (actual.double() - expected).abs().max() / expected.abs().max()
    assert error <= TOLERANCE[precision] * max(1, terms / 1000)**.5, f'{error:.1e}'


def check(x, weight, bias, grad, precision='bfloat16'):
    (n, _, h, w), (kh, kw) = x.shape, weight.shape[-2:]
    out = depthwise_conv2d(x, weight, bias, backend='triton')
    grads = torch.autograd.grad(out, (x, weight, bias), grad)
    xd, wd, bd, gd = (t.detach().double() for t in (x, weight, bias, grad))
    assert all(g.dtype == x.dtype for g in grads)
    expected = memory_format.strides(x.shape, memory_format.is_channels_last(x))
    assert out.stride() == grads[0].stride() == expected
    assert_close(out.detach(), reference.forward(xd, wd, bd), kh * kw, precision)
    assert_close(grads[0], reference.grad_input(gd, wd), kh * kw, precision)
    assert_close(grads[1], reference.grad_weight(xd, gd, (kh, kw)), n * h * w, precision)
    assert_close(grads[2], gd.sum((0, 2, 3)), n * h * w, precision)


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_three_passes_agree_with_the_reference(shape, precision):
    x, weight, bias = make(shape, dtype_of(precision))
    check(x, weight, bias, torch.randn_like(x), precision)


@pytest.mark.parametrize('layout', ['channels_last', 'sliced', 'transposed', 'expanded', 'unaligned'])
def test_any_layout(layout):
    x, weight, bias = (t.detach() for t in make((2, 6, 40, 40, 31, 31)))

    def lay_out(t):
        if layout == 'channels_last':
            return t.to(memory_format=torch.channels_last)
        if layout == 'sliced':
            return t.new_empty(2, 8, 42, 50)[:, 1:7, 1:41, 3:43].copy_(t)
        if layout == 'transposed':
            return t.mT.contiguous().mT
        if layout == 'unaligned':
            return t.new_empty(t.numel() + 1)[1:].view(t.shape).copy_(t)
        return t[:1].expand(2, -1, -1, -1)

    x, grad = lay_out(x).requires_grad_(), lay_out(torch.randn_like(x))
    check(x, weight.requires_grad_(), bias.requires_grad_(), grad)


def test_triton_is_chosen_and_relu_fused():
    x, weight, bias = make((2, 8, 40, 40, 31, 31))
    out = depthwise_conv2d(x, weight, bias, activation='relu')
    assert 'DepthwiseConv2d' in type(out.grad_fn).__name__
    assert torch.equal(out, depthwise_conv2d(x, weight, bias).relu())


def test_fallback_is_logged_once(caplog):
    choice._log_once.cache_clear()
    x, weight, _ = make((1, 2, 20, 20, 31, 31))
    for _ in range(2):
        depthwise_conv2d(x, weight, stride=3)
        depthwise_conv2d(x, weight)
    assert [record.message.count('stride 1') for record in caplog.records] == [1]


@pytest.mark.parametrize('shape', DILATED, ids=str)
def test_dilation(shape, precision):
    from mmreplk.ops import triton as kernels
    (n, _, h, w, kh, kw, dy, dx), dilation = shape, shape[6:]
    x, weight, bias = (t.detach() for t in make(shape, dtype_of(precision)))
    grad, spread = torch.randn_like(x), weight.new_zeros(len(weight), 1, (kh - 1) * dy + 1, (kw - 1) * dx + 1)
    spread[..., ::dy, ::dx] = weight
    xd, wd, bd, gd = (t.double() for t in (x, spread, bias, grad))
    out = kernels.forward(x, weight, bias, dilation=dilation)
    assert_close(out, reference.forward(xd, wd, bd), kh * kw, precision)
    assert_close(kernels.grad_input(grad, weight, dilation), reference.grad_input(gd, wd), kh * kw, precision)
    expected = reference.grad_weight(xd, gd, wd.shape[2:])[..., ::dy, ::dx]
    assert_close(kernels.grad_weight(x, grad, (kh, kw), dilation), expected, n * h * w, precision)


@pytest.mark.parametrize('shape', [SHAPES[0], SHAPES[2], SHAPES[4]], ids=str)
@pytest.mark.parametrize('precision', ['bfloat16', 'float16'], indirect=True)
def test_every_tile_that_is_tuned_computes_the_same(shape, precision, monkeypatch):
    """Those with tensor descriptors too, where the GPU has them."""
    from mmreplk.ops.triton import layout, tiles, tuning
    x, weight, bias = make(shape, dtype_of(precision))
    grad, tried = torch.randn_like(x), set()
    for i in range(12):
        def best(kernel, problem, x, candidates, launch, i=i):
            tried.add(candidates[i % len(candidates)])
            return candidates[i % len(candidates)]

        monkeypatch.setattr(tuning, 'best', best)
        check(x, weight, bias, grad, precision)
    for kind in tiles.ForwardTile, tiles.GradWeightTile:
        described = {tile.descriptors for tile in tried if isinstance(tile, kind)}
        assert described == ({False, True} if layout.gpu_of(x).capability >= 90 else {False})


@pytest.mark.parametrize('trains', [False, True])
@pytest.mark.parametrize('way', ['in place', 'through data', 'other memory'])
def test_a_filter_that_changes_counts_from_the_next_call_on(way, trains):
    x, weight, _ = (t.detach() for t in make((1, 4, 40, 40, 31, 31)))
    weight.requires_grad_(trains)
    with torch.no_grad():
        before = depthwise_conv2d(x, weight)
        assert torch.equal(depthwise_conv2d(x, weight), before)
        if way == 'in place':
            weight.mul_(2)
        elif way == 'through data':
            weight.data.mul_(2)
        else:
            weight.data = weight.data * 2
        assert torch.equal(depthwise_conv2d(x, weight), before * 2)
        with torch.inference_mode():
            assert torch.equal(depthwise_conv2d(x, weight.clone()), before * 2)


@pytest.mark.parametrize('trains', [False, True])
def test_no_memory_is_held_after_a_call(trains):
    x, weight, bias = make((2, 64, 64, 64, 31, 31))
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        if trains:
            torch.autograd.grad(depthwise_conv2d(x, weight, bias, backend='triton').sum(), (x, weight, bias))
        else:
            with torch.no_grad():
                depthwise_conv2d(x, weight, bias, backend='triton')
    torch.cuda.synchronize()
    assert torch.cuda.memory_allocated() == before


def test_the_same_input_gives_the_same_bits():
    x, weight, bias = make((4, 32, 64, 64, 31, 31))

    def grads():
        return torch.autograd.grad(depthwise_conv2d(x, weight, bias).float().square().sum(), (x, weight, bias))

    first = grads()
    assert all(torch.equal(a, b) for _ in range(5) for a, b in zip(first, grads(), strict=True))


def test_side_stream():
    x, weight, _ = (t.detach() for t in make((2, 64, 64, 64, 31, 31)))
    expected, stream = depthwise_conv2d(x, weight), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        out = depthwise_conv2d(x, weight)
    stream.synchronize()
    assert torch.equal(out, expected)


def test_two_streams_at_once():
    """Neither sees what the other has in the making: memory is reused by the stream that it was allocated on."""
    operands = [[t.detach() for t in make((2, 64, 64, 64, 31, 31))] for _ in range(2)]
    expected = [depthwise_conv2d(*o) for o in operands]
    streams, outs = [torch.cuda.Stream() for _ in range(2)], [[], []]
    for stream in streams:
        stream.wait_stream(torch.cuda.current_stream())
    for _ in range(20):
        for stream, own, found in zip(streams, operands, outs, strict=True):
            with torch.cuda.stream(stream):
                found.append(depthwise_conv2d(*own))
    torch.cuda.synchronize()
    for found, right in zip(outs, expected, strict=True):
        assert all(torch.equal(out, right) for out in found)


def test_two_threads_at_once():
    """As servers and DataParallel have it, from the first call on: shapes that nothing here has compiled before."""
    operands = [make((2, 24, 48, width, 33, 33)) for width in (40, 56)]
    grads = [torch.randn_like(o[0]) for o in operands]

    def work(i):
        own = operands[i]
        return [torch.autograd.grad(depthwise_conv2d(*own, backend='triton'), own, grads[i]) for _ in range(10)]

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, range(2)))
    for i in range(2):
        assert all(torch.equal(a, b) for own in found[i] for a, b in zip(own, work(i)[0], strict=True))


@pytest.mark.skipif(not torch.cuda.is_available() or torch.cuda.get_device_properties(0).total_memory < HUGE_BYTES,
                    reason=f'needs {HUGE_BYTES / 1e9:.0f} GB of GPU memory')
def test_maps_beyond_32_bit_offsets():
    """More than 2^31 values: the last image is what it is alone, and gradients are the sums of those of parts."""
    from mmreplk.ops import triton as kernels
    x = torch.randn(34, 64, 1024, 1024, device='cuda', dtype=torch.bfloat16)
    weight = torch.randn(64, 1, 13, 13, device='cuda', dtype=torch.bfloat16)
    assert x.numel() > 2**31
    out = kernels.forward(x, weight)
    for one in slice(0, 1), slice(33, 34):  # one image has other tiles, which add in another order
        assert_close(out[one], kernels.forward(x[one], weight).double(), 13 * 13)
    grad = kernels.grad_weight(x, out, (13, 13)).double()
    parts = sum(kernels.grad_weight(x[i:i + 17], out[i:i + 17], (13, 13)).double() for i in (0, 17))
    assert (grad - parts).abs().max() <= 1e-2 * parts.abs().max()


@pytest.mark.parametrize('tuned', ['0', '1'])
def test_cuda_graph(tuned, monkeypatch, tmp_path):
    monkeypatch.setenv('MMREPLK_AUTOTUNE', tuned)
    monkeypatch.setenv('MMREPLK_CACHE', str(tmp_path))
    x, weight, bias = (t.detach() for t in make((2, 16, 64, 64, 31, 31)))
    depthwise_conv2d(x, weight, bias)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = depthwise_conv2d(x, weight, bias)
    x.normal_()
    weight.normal_()
    graph.replay()
    assert torch.equal(out, depthwise_conv2d(x, weight, bias))


@pytest.mark.parametrize('kernel', [(31, 31), (51, 5), (5, 51)], ids=str)
def test_cuda_graph_of_a_training_step(kernel):
    x, weight, bias = make((2, 16, 64, 64, *kernel))
    grad = torch.randn_like(x)

    def step():
        return torch.autograd.grad(depthwise_conv2d(x, weight, bias, backend='triton'), (x, weight, bias), grad)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        for t in (x, weight, grad):
            t.normal_()
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(captured, step(), strict=True))


def test_torch_compile():
    x, weight, bias = make((2, 8, 40, 40, 31, 31))
    eager = depthwise_conv2d(x, weight, bias)
    out = torch.compile(depthwise_conv2d, fullgraph=True)(x, weight, bias)
    assert torch.equal(out, eager)
    grads = torch.autograd.grad(out.float().sum(), (x, weight, bias))
    for actual, expected in zip(grads, torch.autograd.grad(eager.float().sum(), (x, weight, bias)), strict=True):
        torch.testing.assert_close(actual, expected)


def test_compiled_with_cuda_graphs():
    x, weight, bias = (t.detach() for t in make((2, 8, 40, 40, 31, 31)))
    compiled = torch.compile(depthwise_conv2d, mode='reduce-overhead')
    for _ in range(4):
        weight.mul_(-1)
        assert torch.equal(compiled(x, weight, bias), depthwise_conv2d(x, weight, bias))


def test_autocast():
    x, weight, bias = make((2, 8, 40, 40, 31, 31), torch.float32)
    with torch.autocast('cuda', torch.bfloat16):
        out = depthwise_conv2d(x, weight, bias)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16 and weight.grad.dtype == torch.float32
    rounded = [t.detach().bfloat16().double() for t in (x, weight, bias)]
    assert_close(out.detach(), reference.forward(*rounded), 961)


def test_tuning_is_remembered(monkeypatch, tmp_path):
    from mmreplk.ops import tuning as store
    from mmreplk.ops.triton import tuning
    monkeypatch.setenv('MMREPLK_AUTOTUNE', '1')
    monkeypatch.setenv('MMREPLK_CACHE', str(tmp_path))
    monkeypatch.setattr(tuning, '_answers', {})
    x, weight, bias = make((2, 8, 40, 40, 31, 31))
    check(x, weight, bias, torch.randn_like(x))
    assert next(tmp_path.glob('*.json')).read_text().count('\n') >= 3
    store._known.clear()
    tuning._answers.clear()
    monkeypatch.setattr(tuning, '_milliseconds', lambda *_: pytest.fail('tuned again'))
    check(x, weight, bias, torch.randn_like(x))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason='needs a second GPU')
def test_the_device_need_not_be_the_current_one():
    x, weight, bias = make((1, 4, 40, 40, 31, 31))
    out = depthwise_conv2d(*(t.to('cuda:1') for t in (x, weight, bias)))
    assert torch.equal(out.cpu(), depthwise_conv2d(x, weight, bias).cpu())
