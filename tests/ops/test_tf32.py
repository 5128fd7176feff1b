from types import SimpleNamespace

import pytest
import torch

from mmreplk.ops.tf32 import allows_tf32

BACKENDS = torch.backends, torch.backends.cudnn, getattr(torch.backends.cudnn, 'conv', None)


@pytest.fixture(autouse=True)
def switches():
    if BACKENDS[2] is None:
        yield
        return
    before = [backend.fp32_precision for backend in BACKENDS]
    yield
    for backend, precision in zip(BACKENDS, before, strict=True):
        backend.fp32_precision = precision


def test_the_older_switch_is_followed():
    for allowed in (False, True):
        torch.backends.cudnn.allow_tf32 = allowed
        assert allows_tf32() is allowed


@pytest.mark.skipif(BACKENDS[2] is None, reason='PyTorch has these switches from 2.9 on')
def test_the_newer_switches_are_followed():
    torch.backends.cudnn.conv.fp32_precision = 'ieee'
    with pytest.raises(RuntimeError):
        _ = torch.backends.cudnn.allow_tf32
    assert not allows_tf32()
    torch.backends.cudnn.conv.fp32_precision = 'tf32'
    assert allows_tf32()
    torch.backends.cudnn.conv.fp32_precision = 'none'
    for backend in BACKENDS[:2]:
        backend.fp32_precision = 'tf32'
        assert allows_tf32()
        backend.fp32_precision = 'ieee'
        assert not allows_tf32()
        backend.fp32_precision = 'none'


@pytest.mark.parametrize('allowed', [False, True])
def test_a_pytorch_without_the_newer_switches(monkeypatch, allowed):
    monkeypatch.setattr(torch.backends, 'cudnn', SimpleNamespace(allow_tf32=allowed))
    assert allows_tf32() is allowed
