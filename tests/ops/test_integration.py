"""The operator inside the machinery of PyTorch: autocast, compilation, export, several processes."""

import inspect
import os
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mmreplk.layers import LargeKernelConv2d
from mmreplk.ops import choice, cpu, custom_ops, depthwise_conv2d
from tests.ops.memory import assert_bounded
from tests.processes import alone, in_two_processes

pytestmark = [
    pytest.mark.usefixtures('fast_path_for_small_maps'),
    pytest.mark.skipif(not cpu.IS_SUPPORTED, reason='this CPU has no fast path'),
]


class Network(nn.Module):

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.large = LargeKernelConv2d(6, 6, 31, padding=15, groups=6)

    def forward(self, x):
        return self.large(self.first(x), 'relu')


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_autocast_lowers_as_for_conv2d(dtype):
    x, weight, bias = torch.randn(2, 4, 20, 20), torch.randn(4, 1, 31, 31).requires_grad_(), torch.randn(4).to(dtype)
    with torch.autocast('cpu', dtype):
        out = depthwise_conv2d(x, weight, bias)
        assert out.dtype == dtype and 'DepthwiseConv2d' in type(out.grad_fn).__name__
        out.float().sum().backward()
    assert weight.grad.dtype == torch.float32
    expected = F.conv2d(x.to(dtype).double(), weight.to(dtype).double(), bias.double(), padding=15, groups=4)
    assert (out.double() - expected).abs().max() < 4e-3 * expected.abs().max()


@pytest.mark.parametrize('operands', ['weight', 'x', 'bias'])
@pytest.mark.parametrize('function', [depthwise_conv2d, F.conv2d])
def test_autocast_leaves_float64_alone_and_mixing_it_raises(function, operands):
    tensors = dict(x=torch.randn(2, 4, 20, 20), weight=torch.randn(4, 1, 31, 31), bias=torch.randn(4))
    tensors[operands] = tensors[operands].double()
    options = dict(padding=15, groups=4) if function is F.conv2d else {}
    with torch.autocast('cpu', torch.bfloat16):
        with pytest.raises((RuntimeError, TypeError), match='(type|double|Double|float64)'):
            function(*tensors.values(), **options)
        out = function(*(t.double() for t in tensors.values()), **options)
    assert out.dtype == torch.float64


@pytest.mark.parametrize('compiler', ['aot_eager', 'inductor'])
def test_compiled_whole_it_is_the_same(compiler):
    model, x = Network(), torch.randn(2, 3, 20, 22)
    compiled = torch.compile(model, fullgraph=True, backend=compiler)
    grads = []
    for run in (model, compiled):
        model.zero_grad()
        run(x).square().mean().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(compiled(x), model(x))
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize('trains', [False, True])
def test_compiled_it_is_the_fast_operator(trains):
    graphs = []

    def compiler(graph, inputs):
        graphs.append(graph)
        return graph

    model = Network().requires_grad_(trains)
    torch.compile(model, fullgraph=True, backend=compiler)(torch.randn(1, 3, 20, 20))
    assert sum('mmreplk.depthwise_conv2d' in str(node.target) for node in graphs[0].graph.nodes) == 1


@pytest.mark.parametrize('function', [choice._is_exported, choice._fault_of_triton])
def test_compiled_what_is_constant_is_marked_as_pytorch_marks_it(function):
    assert inspect.isfunction(function), 'PyTorch 2.11 traces what is behind a cache'
    """Which does it in the same way, but imports Dynamo first."""
    marks = vars(torch.compiler.assume_constant_result(lambda: None))
    assert marks and marks.items() <= vars(function).items()


def test_compiled_it_is_the_fast_operator_where_dynamo_takes_is_exporting_for_true(monkeypatch):
    """As in PyTorch 2.11; in Python the function is false."""
    torch._dynamo.reset()  # imports it before the function is replaced
    monkeypatch.setattr(torch.compiler, 'is_exporting', lambda: torch.compiler.is_dynamo_compiling())
    graphs = []
    torch.compile(Network(), fullgraph=True, backend=lambda graph, _: graphs.append(graph) or graph)(
        torch.randn(1, 3, 20, 20))
    assert sum('mmreplk.depthwise_conv2d' in str(node.target) for node in graphs[0].graph.nodes) == 1


@pytest.mark.parametrize('size', [3, 7, 31])
def test_traced_it_is_an_ordinary_convolution_of_any_size(size):
    class Model(nn.Module):

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 1, size, size))

        def forward(self, x):
            return depthwise_conv2d(x, self.weight) + depthwise_conv2d(x, self.weight, padding=size // 2, dilation=1)

    model, other = Model().eval(), torch.randn(1, 6, 33, 40)
    with warnings.catch_warnings():
        warnings.simplefilter('error', torch.jit.TracerWarning)
        traced = torch.jit.trace(model, (torch.randn(2, 6, 20, 22),), check_trace=False)
    kinds = [node.kind() for node in traced.graph.nodes()]
    assert kinds.count('aten::_convolution') + kinds.count('aten::conv2d') == 2 and 'mmreplk' not in ' '.join(kinds)
    torch.testing.assert_close(traced(other), model(other), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('strict', [False, True])
@pytest.mark.parametrize('size', [3, 31])
def test_exported_strictly_or_not_it_is_an_ordinary_convolution(size, strict):
    layer = LargeKernelConv2d(6, 6, size, padding=size // 2, groups=6).eval()
    program = torch.export.export(layer, (torch.randn(2, 6, 20, 22),), strict=strict)
    calls = [str(node.target) for node in program.graph.nodes if node.op == 'call_function']
    assert sum('conv2d' in call for call in calls) == 1 and not any('mmreplk' in call for call in calls)


@pytest.mark.parametrize('size', [3, 31])
def test_the_older_onnx_exporter_writes_an_ordinary_conv(tmp_path, size):
    model, path = LargeKernelConv2d(6, 6, size, padding=size // 2, groups=6).eval(), str(tmp_path / 'model.onnx')
    torch.onnx.export(model, (torch.randn(2, 6, 20, 22),), path, dynamo=False, input_names=['x'],
                      dynamic_axes=dict(x={0: 'n', 2: 'h', 3: 'w'}))
    assert [node.op_type for node in onnx.load(path).graph.node].count('Conv') == 1
    other = torch.randn(1, 6, 33, 40)
    out, = onnxruntime.InferenceSession(path).run(None, {'x': other.numpy()})
    np.testing.assert_allclose(out, model(other).detach().numpy(), rtol=1e-4, atol=1e-4)


def test_exported_it_is_an_ordinary_convolution():
    model, x = Network().eval(), torch.randn(2, 3, 20, 22)
    sizes = dict(enumerate((torch.export.Dim('n'), None, torch.export.Dim('h'), torch.export.Dim('w'))))
    program = torch.export.export(model, (x,), dynamic_shapes=(sizes,))
    calls = [str(node.target) for node in program.graph.nodes if node.op == 'call_function']
    assert sum('conv2d' in call for call in calls) == 2 and not any('mmreplk' in call for call in calls)
    other = torch.randn(1, 3, 33, 40)
    torch.testing.assert_close(program.module()(other), model(other))


def test_onnx_has_an_ordinary_conv(tmp_path):
    model, x = Network().eval(), torch.randn(2, 3, 20, 22)
    path = str(tmp_path / 'model.onnx')
    torch.onnx.export(model, (x,), path, dynamo=True, dynamic_shapes=({0: 'n', 2: 'h', 3: 'w'},), verbose=False)
    large = [node for node in onnx.load(path).graph.node if node.op_type == 'Conv'][1]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in large.attribute}
    assert attributes['group'] == 6 and list(attributes['pads']) == [15] * 4
    other = torch.randn(1, 3, 33, 40)
    session = onnxruntime.InferenceSession(path)
    out, = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    np.testing.assert_allclose(out, model(other).detach().numpy(), rtol=1e-4, atol=1e-5)


def averaged_and_expected():
    """Returns the gradient that two processes average over their halves of a batch, and that of the whole."""
    rank = int(os.environ['RANK'])
    distributed.init_process_group('gloo')
    torch.manual_seed(0)
    model = LargeKernelConv2d(4, 4, 31, padding=15, groups=4)
    x = torch.randn(4, 4, 12, 12)
    wrapped = DistributedDataParallel(model)  # which averages for as long as it lives
    out = wrapped(x[2 * rank:2 * rank + 2])
    assert 'DepthwiseConv2d' in type(out.grad_fn).__name__
    out.square().mean().backward()
    averaged = model.weight.grad.clone()
    model.zero_grad()
    model(x).square().mean().backward()
    return averaged.numpy(), model.weight.grad.numpy()


@pytest.mark.parametrize('name', ['no_such_function', '_push_on_torch_dispatch_stack'])  # the latter takes a mode
def test_in_a_pytorch_with_other_private_functions_it_is_an_operator(monkeypatch, name):
    x, weight = torch.randn(2, 4, 20, 20, requires_grad=True), torch.randn(4, 1, 31, 31, requires_grad=True)
    direct = depthwise_conv2d(x, weight)
    assert type(direct.grad_fn).__name__ == 'DepthwiseConv2dBackward' and not custom_ops.is_watched()
    monkeypatch.setattr(custom_ops, 'PRIVATE', (name, ))
    out = depthwise_conv2d(x, weight)
    assert type(out.grad_fn).__name__ != 'DepthwiseConv2dBackward' and custom_ops.is_watched()
    grads, expected = (torch.autograd.grad(t.square().sum(), (x, weight)) for t in (out, direct))
    assert all(map(torch.equal, (out, *grads), (direct, *expected)))


def test_two_processes_average_its_gradients():
    for averaged, expected in in_two_processes(averaged_and_expected):
        torch.testing.assert_close(averaged, expected)


@pytest.mark.skipif(sys.platform != 'linux', reason='reads peak memory from /proc: Linux')
def test_memory_is_bounded():
    cases = [(4, 128, 96, 31, torch.float32), (4, 128, 96, 31, torch.bfloat16), (4, 128, 96, 7, torch.float32),
             (2, 1024, 9, 51, torch.float32), (1, 32, 300, 15, torch.float32), (1, 2, 1024, 31, torch.float32)]
    for case in cases:  # what one leaves with the allocator does not make the next one cheaper
        alone(assert_bounded, *case)
