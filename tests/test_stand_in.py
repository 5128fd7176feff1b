import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mmreplk.stand_in import stand_in_path
from tests.warm import python

ROOT = Path(__file__).parents[1]
NAME = 'depthwise_conv2d_implicit_gemm'


def run(*arguments, **variables):
    result = subprocess.run([python('torch'), '-W', 'ignore', *arguments], cwd=ROOT, capture_output=True, text=True,
                            timeout=300, env={**os.environ, **variables})
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def convolution(monkeypatch):
    monkeypatch.syspath_prepend(stand_in_path())
    yield importlib.import_module(NAME).DepthWiseConv2dImplicitGEMM
    sys.modules.pop(NAME)


def test_one_command_prints_the_folder_that_is_not_on_the_path_by_itself():
    folder = run('-m', 'mmreplk', 'stand-in')
    assert folder == stand_in_path()
    assert {path.name for path in Path(folder).glob('*.py')} == {'__init__.py', f'{NAME}.py'}
    look = f'import importlib.util; print(importlib.util.find_spec({NAME!r}))'
    assert run('-c', f'import mmreplk; {look}') == 'None'
    path = os.pathsep.join([folder, str(ROOT)])
    assert f'{folder}/{NAME}.py' in run('-c', look, PYTHONPATH=path)


def test_the_variable_of_the_official_code_finds_it():
    """RepLKNet's code appends the variable to the path and imports the module; so does a test with its environment."""
    code = f"""
import os, sys
sys.path.append(os.environ['LARGE_KERNEL_CONV_IMPL'])
from {NAME} import DepthWiseConv2dImplicitGEMM
print(DepthWiseConv2dImplicitGEMM(8, 31, bias=False))
"""
    text = run('-c', code, LARGE_KERNEL_CONV_IMPL=stand_in_path())
    assert text == ('DepthWiseConv2dImplicitGEMM(8, 8, kernel_size=(31, 31), stride=(1, 1), padding=(15, 15), '
                    'groups=8, bias=False)')


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('kernel', [31, (51, 5), (5, 51), 3])
def test_it_is_the_convolution(convolution, kernel, bias, dtype):
    conv = convolution(16, kernel, bias=bias)
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    plain = nn.Conv2d(16, 16, kernel, padding=(height // 2, width // 2), groups=16, bias=bias)
    assert isinstance(conv, nn.Conv2d) and conv.padding == plain.padding and conv.kernel_size == plain.kernel_size
    assert {name: tensor.shape for name, tensor in conv.state_dict().items()} == {
        name: tensor.shape for name, tensor in plain.state_dict().items()}
    plain.load_state_dict(conv.state_dict())
    conv, plain = conv.to(dtype), plain.to(dtype).double()
    x = torch.randn(2, 16, 40, 32, dtype=dtype, requires_grad=True)
    x64 = x.detach().double().requires_grad_()
    out, expected = conv(x), plain(x64)
    assert out.dtype == dtype
    out.square().sum().backward()
    expected.square().sum().backward()
    actual = [out, x.grad, *(parameter.grad for parameter in conv.parameters())]
    truth = [expected, x64.grad, *(parameter.grad for parameter in plain.parameters())]
    tolerance = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-3, torch.float64: 1e-10}[dtype]
    for one, other in zip(actual, truth, strict=True):
        assert (one.double() - other).abs().max() <= tolerance * other.abs().max()


def test_autocast_gives_its_dtype(convolution):
    with torch.autocast('cpu', torch.bfloat16):
        assert convolution(16, 31)(torch.randn(1, 16, 32, 32)).dtype == torch.bfloat16


@pytest.mark.parametrize('kernel', [30, (31, 4)])
def test_even_sizes_are_refused(convolution, kernel):
    """Of them the official extension and PyTorch pad different sides."""
    with pytest.raises(ValueError, match=f'kernel must be odd.*got {kernel}'.replace('(', r'\(').replace(')', r'\)')):
        convolution(8, kernel)
