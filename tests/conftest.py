import gc
import logging
import os
import random
import sys
import zlib

import numpy as np
import pytest
import torch
from mmengine.utils import ManagerMixin
from torch import nn

from mmreplk.ops import functional, gpu
from mmreplk.ops.cpu import compiled, costs
from tests.haste import hasten
from tests.server import serving

hasten()


def pytest_collection_modifyitems(items):
    """The longest tests start processes: they begin first, so that none runs on alone when all others are done."""
    items.sort(key=lambda item: item.path.parent.name != 'tools')


def pytest_collection_finish():
    gc.freeze()  # what has been imported is there for good: garbage collections need not look at it


@pytest.fixture(autouse=True)
def seeded():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope='module')
def nothing_left_by_modules():
    """What tests share sets the default scope, too, and a session's fixtures are made before this one."""
    imported = len(sys.modules)
    yield
    for kind in _global_kinds():
        kind._instance_dict.clear()
    if len(sys.modules) > imported + 100:
        gc.collect()
        gc.freeze()  # these modules too


@pytest.fixture(autouse=True, scope='session')
def compiled_before():
    """So that no test, and no process that one starts, takes seconds longer and writes a line more than others."""
    compiled.library()


@pytest.fixture(autouse=True, scope='session')
def memory_is_given_back():
    """What a tool asks of the C library for its own process would hold for all later tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmreplk.allocator.keep_freed_memory', lambda: True)
        yield


@pytest.fixture(autouse=True, scope='session')
def handlers_stay_open():
    """A web server that configures logging closes the handlers of all others; that of absl closes pytest's stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('logging.config._clearExistingHandlers', lambda: None)
        yield


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Tools that run in this process set variables of the environment, and runs add handlers and loggers."""
    log, environment = logging.getLogger('mmreplk'), dict(os.environ)
    handlers, arithmetic = list(log.handlers), _arithmetic()
    instances = [(kind, kind._instance_dict.copy()) for kind in _global_kinds()]
    yield
    log.handlers[:] = handlers
    for kind, before in instances:
        kind._instance_dict = before
    for name in {*os.environ} - {*environment}:
        del os.environ[name]
    os.environ.update(environment)
    functional._PLANS.clear()
    costs.cheapest.cache_clear()  # at prices that a test has changed
    costs.cheapest_prepared.cache_clear()
    assert _arithmetic() == arithmetic, 'the test computes otherwise after it'


def _global_kinds():
    """Returns MMEngine's classes of which the last instance counts everywhere, such as the default scope."""
    kinds = [ManagerMixin]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return kinds


def _arithmetic():
    """Returns what decides how PyTorch rounds in this process."""
    convolutions = getattr(torch.backends.mkldnn, 'conv', None)  # from PyTorch 2.9 on
    return dict(
        dtype=torch.get_default_dtype(), threads=torch.get_num_threads(), onednn=torch.backends.mkldnn.enabled,
        precision=getattr(convolutions, 'fp32_precision', None),
        flushes=bool(torch.tensor(1e-40) * 1 == 0))


@pytest.fixture
def on_triton(monkeypatch):
    """On a GPU, its kernels compute maps of any size, and some map at least: PyTorch's would agree with themselves."""
    from mmreplk.ops.triton import layout
    seen, gpu_of = [], layout.gpu_of

    def watched(t):
        seen.append(t.device.type)
        return gpu_of(t)

    monkeypatch.setattr(layout, 'gpu_of', watched)
    monkeypatch.setattr(gpu, 'SMALLEST_WORK', {False: 0, True: 0})
    monkeypatch.setattr(functional, '_PLANS', {})
    yield
    assert 'cuda' in seen, 'no Triton kernel has run'


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def torch_cache(tmp_path, monkeypatch):
    """Where PyTorch keeps downloads, in a folder of the test's own, for subprocesses too."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    return tmp_path / 'torch' / 'hub' / 'checkpoints'


@pytest.fixture
def poisoned_empty():
    """Fills every fresh uninitialized tensor with NaN, so that an output that is not written cannot pass."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


@pytest.fixture
def reports(caplog):
    """What the networks log, one message after the other."""
    caplog.set_level('INFO', logger='mmreplk')
    return Messages(caplog)


class Messages:

    def __init__(self, caplog):
        self.caplog = caplog

    def __len__(self):
        return len(self.caplog.messages)

    def __getitem__(self, index):
        return self.caplog.messages[index]


def randomize(model: nn.Module, scales: bool = False) -> nn.Module:
    """Gives every BatchNorm statistics and weights that a mistake in folding cannot survive.

    With ``scales``, GRN and layer scales too: at their start, zeros and small numbers hide mistakes.
    """
    for name, parameter in model.named_parameters():
        if scales and name.endswith(('gamma', 'beta')):
            nn.init.normal_(parameter)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model


def fill_by_name(model: nn.Module) -> nn.Module:
    """Gives ``model`` the weights that the fixtures of the official implementation were computed with."""
    weights = {}
    for name, tensor in model.state_dict().items():
        rng, shape = np.random.default_rng(zlib.crc32(name.encode())), tuple(tensor.shape)
        if name.endswith('num_batches_tracked'):
            value = np.zeros(shape)
        elif name.endswith('running_mean'):
            value = rng.normal(0, .1, shape)
        elif name.endswith('running_var') or (len(shape) == 1 and name.endswith('.weight')):
            value = rng.uniform(.5, 1.5, shape)
        elif len(shape) == 1:
            value = rng.normal(0, .1, shape)
        else:
            value = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
        weights[name] = torch.as_tensor(value).to(tensor.dtype)
    model.load_state_dict(weights)
    return model


def copied_state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same_bits(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(actual) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name
