"""The backbone on a real GPU, in every form, against itself on the CPU in float64."""

import copy

import pytest
import torch

from mmreplk import RepLKNet, reparameterized
from tests.conftest import randomize

DEVICE = 'cuda'
ARCH = dict(large_kernel_sizes=[31, 29, 13], layers=[1, 2, 1], channels=[16, 32, 48], small_kernel=5)
# Relative to the largest value of the features; float32 is exact where TF32 is off.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-1, torch.float16: 1e-2}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason='there is no CUDA GPU'),
    pytest.mark.usefixtures('on_triton'),
]


@pytest.fixture(autouse=True)
def without_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


@pytest.fixture
def network():
    return randomize(RepLKNet(ARCH, out_indices=[0, 1, 2], drop_path_rate=0.))


def assert_close(actual, expected, tolerance):
    for one, other in zip(actual, expected, strict=True):
        error = (one.double().cpu() - other).abs().max() / other.abs().max()
        assert error <= tolerance, f'{error:.1e}'


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', TOLERANCE)
def test_every_form_gives_what_the_cpu_gives(network, dtype, layout):
    x = torch.randn(2, 3, 70, 93)
    with torch.no_grad():
        expected = copy.deepcopy(network).double().eval()(x.double())
        model = network.eval().to(DEVICE, memory_format=layout)
        x = x.to(DEVICE, memory_format=layout)
        with torch.autocast(DEVICE, dtype, enabled=dtype != torch.float32):
            assert_close(model(x), expected, TOLERANCE[dtype])
            for fuse_bn in (False, True):
                with reparameterized(model, fuse_bn=fuse_bn):
                    assert_close(model(x), expected, TOLERANCE[dtype])


def test_gradients_are_those_of_the_cpu(network):
    x = torch.randn(2, 3, 70, 93)
    exact, model = copy.deepcopy(network).double(), network.to(DEVICE)
    outs = exact(x.double()), model(x.to(DEVICE))
    directions = [torch.randn(out.shape, dtype=torch.float64) for out in outs[0]]
    expected = torch.autograd.grad(outs[0], list(exact.parameters()), directions)
    actual = torch.autograd.grad(outs[1], list(model.parameters()), [d.float().to(DEVICE) for d in directions])
    scale = max(grad.abs().max() for grad in expected)
    for name, one, other in zip(dict(model.named_parameters()), actual, expected, strict=True):
        error = (one.double().cpu() - other).abs().max() / scale
        assert error <= 1e-3, f'{name}: {error:.1e}'
