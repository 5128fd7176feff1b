import copy
import pickle
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.backends.debugging import aot_eager
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

from mmreplk import InputError, accelerate, restore
from mmreplk.acceleration import AcceleratedConv2d
from mmreplk.layers import LargeKernelConv2d
from mmreplk.ops.cpu import facts
from tests.warm import python

ROOT = Path(__file__).parents[1]


class Block(nn.Module):
    """A block as of ConvNeXt, with strips as of SegNeXt."""

    def __init__(self, channels):
        super().__init__()
        self.square = nn.Conv2d(channels, channels, 31, padding=15, groups=channels)
        self.strips = nn.Sequential(
            nn.Conv2d(channels, channels, (1, 21), padding=(0, 10), groups=channels, bias=False),
            nn.Conv2d(channels, channels, (21, 1), padding='same', groups=channels))
        self.norm = nn.BatchNorm2d(channels)
        self.dense = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return x + self.dense(self.norm(self.strips(self.square(x))))


LAYERS = ['1.square', '1.strips.0', '1.strips.1', '2.square', '2.strips.0', '2.strips.1']


def network():
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), Block(16), Block(16))


class Calls(TorchDispatchMode):
    """Counts what is computed, by the library it is from."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.namespace] += 1
        return func(*args, **kwargs or {})


def is_fast(model, x):
    """Whether the large squares are computed by our operator; whether strips are, depends on the machine."""
    with Calls() as calls:
        model(x)
    assert calls.counts['aten']
    return calls.counts['mmreplk'] >= 2


@pytest.fixture
def x():
    return torch.randn(2, 3, 64, 64)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def gradients(model, x):
    model.zero_grad()
    model(x).square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_the_model_computes_the_same_on_the_fast_operator(x):
    model = network()
    plain = copy.deepcopy(model)
    assert accelerate(model) == LAYERS
    close(model(x), plain(x))
    fast, slow = gradients(model, x), gradients(plain, x)
    for name, gradient in slow.items():
        torch.testing.assert_close(fast[name], gradient, rtol=1e-3, atol=1e-5, msg=name)
    assert is_fast(model, x) and not is_fast(plain, x)


def test_nothing_but_classes_changes_and_restore_undoes_it():
    model, seen = network(), []
    model[1].square.register_forward_hook(lambda module, *_: seen.append(module))
    modules, classes = dict(model.named_modules()), {name: type(module) for name, module in model.named_modules()}
    attributes = {name: dict(vars(module)) for name, module in modules.items()}
    for change, names in ((accelerate, LAYERS), (accelerate, []), (restore, LAYERS), (restore, [])):
        assert change(model) == names
        # The very objects: parameters, buffers and hooks are in dicts among the attributes.
        assert dict(model.named_modules()) == modules
        for name, module in modules.items():
            assert vars(module).keys() == attributes[name].keys()
            assert all(vars(module)[key] is value for key, value in attributes[name].items()), name
            is_changed = change is accelerate and name in LAYERS
            assert type(module) is (AcceleratedConv2d if is_changed else classes[name])
        model(torch.randn(2, 3, 8, 8))
        assert seen.pop() is model[1].square and not seen


def test_initializers_of_mmengine_know_the_layers():
    """They look at the class and at its bases by name."""
    assert AcceleratedConv2d.__bases__ == (nn.Conv2d, )


class Other(nn.Conv2d):
    pass


def replaced():
    conv = nn.Conv2d(8, 8, 31, padding=15, groups=8)
    conv.forward = lambda x: x
    return conv


@pytest.mark.parametrize('conv', [
    nn.Conv2d(8, 8, 31, padding=15),
    nn.Conv2d(8, 8, 31, padding=15, groups=4),
    nn.Conv2d(8, 16, 31, padding=15, groups=8),
    nn.Conv2d(8, 8, 31, padding=15, groups=8, padding_mode='circular'),
    nn.ConvTranspose2d(8, 8, 31, padding=15, groups=8),
    Other(8, 8, 31, padding=15, groups=8),
    LargeKernelConv2d(8, 8, 31, padding=15, groups=8),
    nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 31, padding=15, groups=8)),
    replaced(),
], ids=['dense', 'grouped', 'wider', 'circular', 'transposed', 'subclass', 'ours', 'parametrized', 'replaced'])
def test_what_is_left_alone(conv):
    before = type(conv)
    assert accelerate(nn.Sequential(conv)) == restore(nn.Sequential(conv)) == []
    assert type(conv) is before


@pytest.mark.parametrize(('options', 'gains'), [
    (dict(kernel_size=1), False),
    (dict(kernel_size=3, padding=1), True),
    (dict(kernel_size=(1, 31), padding=(0, 15)), True),
    (dict(kernel_size=3, padding='same', dilation=3), True),
    (dict(kernel_size=7, padding=3, stride=2), False),
    (dict(kernel_size=7, padding=2), False),
    (dict(kernel_size=7, padding='valid'), False),
    (dict(kernel_size=8, padding='same'), False),
    (dict(kernel_size=51, padding=25, stride=2), True),  # PyTorch's weight gradient is wrong
], ids=str)
def test_layers_are_left_alone_where_no_input_gains(options, gains, monkeypatch):
    conv, x = nn.Conv2d(8, 8, groups=8, **options), torch.randn(2, 8, 60, 60)
    expected = conv(x)
    monkeypatch.setattr(facts, 'SLOW_DTYPES', set())
    assert accelerate(conv) == restore(conv) == [''] * gains
    monkeypatch.setattr(facts, 'SLOW_DTYPES', {torch.float16})  # which gains in every geometry
    assert accelerate(conv) == ['']
    close(conv(x), expected)


def test_inputs_that_the_operator_does_not_take_go_to_pytorch():
    conv = nn.Conv2d(8, 8, 31, padding=15, groups=8)
    images = torch.randn(0, 8, 40, 40), torch.randn(2, 8, 40, 40, dtype=torch.float64)
    expected = [conv.to(image.dtype)(image) for image in images]
    assert accelerate(conv) == ['']
    for image, out in zip(images, expected, strict=True):
        assert torch.equal(conv.to(image.dtype)(image), out)


def test_an_image_without_a_batch_is_convolved():
    conv, image = nn.Conv2d(8, 8, 31, padding=15, groups=8), torch.randn(8, 64, 64)
    expected = conv(image)
    assert accelerate(conv) == [''] and is_fast(nn.Sequential(conv, conv), image)
    close(conv(image), expected)


def test_averaged_models_and_copies_are_models_of_their_own(x):
    model = network().eval()
    accelerate(model)
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    close(averaged(x), model(x))
    assert is_fast(averaged, x)
    assert restore(averaged) == [f'module.{name}' for name in LAYERS]
    assert is_fast(model, x) and not is_fast(averaged, x)


def test_distributed_training_and_optimizers_go_on(x, tmp_path):
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model, plain = network(), None
        plain = copy.deepcopy(model)
        wrapped = DistributedDataParallel(model)
        optimizers = [torch.optim.SGD(one.parameters(), 0.1) for one in (model, plain)]
        for step in range(4):
            assert [accelerate, restore][step % 2](wrapped) == [f'module.{name}' for name in LAYERS]
            for one, optimizer in zip((wrapped, plain), optimizers, strict=True):
                optimizer.zero_grad()
                one(x).square().mean().backward()
                optimizer.step()
        for name, tensor in plain.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    finally:
        dist.destroy_process_group()


def test_compiled_models_follow(x):
    ran = []

    def backend(graph, inputs):
        count, compiled = sum('mmreplk' in str(node.target) for node in graph.graph.nodes), aot_eager(graph, inputs)

        def run(*args):
            ran.append(count)
            return compiled(*args)

        return run

    torch._dynamo.reset()
    model = network()
    expected, expected_gradients = model(x), gradients(model, x)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for change in (None, accelerate, restore):
        if change is not None:
            assert change(compiled) == [f'_orig_mod.{name}' for name in LAYERS]
        close(compiled(x), expected)
        for name, gradient in gradients(compiled, x).items():
            torch.testing.assert_close(gradient, expected_gradients[name.removeprefix('_orig_mod.')], rtol=1e-3,
                                       atol=1e-5)
    plain, _, fast, _, restored, _ = ran
    assert plain == restored == 0 and fast >= 2
    torch._dynamo.reset()


def test_exporters_see_ordinary_convolutions(x):
    model = network().eval()
    expected = model(x)
    accelerate(model)
    program = torch.export.export(model, (x, ))
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count('aten.conv2d.default') == len(LAYERS) + 3 and not any('mmreplk' in name for name in targets)
    close(program.module()(x), expected)
    traced = torch.jit.trace(model, x)
    assert 'mmreplk::' not in str(traced.inlined_graph)
    close(traced(x), expected)


def test_symbolic_traces_keep_the_fast_operator(x):
    model = network().eval()
    accelerate(model)
    traced = torch.fx.symbolic_trace(model)
    assert is_fast(traced, x)
    close(traced(x), model(x))


def test_pickled_models_load_in_another_process(x, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 31, padding=15, groups=16), nn.BatchNorm2d(16)).eval()
    assert accelerate(model) == ['1']
    (tmp_path / 'model.pkl').write_bytes(pickle.dumps(model))
    torch.save(dict(model=model, x=x, out=model(x)), tmp_path / 'model.pth')
    result = subprocess.run([python('torch'), '-c', """
import pickle, sys, torch
saved = torch.load(sys.argv[1] + '/model.pth', weights_only=False)
for model in (saved['model'], pickle.load(open(sys.argv[1] + '/model.pkl', 'rb'))):
    assert 'AcceleratedConv2d' in repr(model)
    assert torch.equal(model(saved['x']), saved['out'])
    import mmreplk
    assert mmreplk.restore(model) == ['1'] and 'Accelerated' not in repr(model)
    assert (model(saved['x']) - saved['out']).abs().max() < 1e-4
""", tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


def test_what_is_no_model_is_refused():
    for function in (accelerate, restore):
        with pytest.raises(InputError, match=r'must be a torch\.nn\.Module, got str'):
            function('convnext')
