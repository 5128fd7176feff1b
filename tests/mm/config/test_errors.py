import errno
from types import FunctionType, SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, MODELS
from mmengine.runner import Runner
from torch import nn

from mmreplk import InputError
from mmreplk.cli import run
from mmreplk.mm.config import config_errors
from mmreplk.mm.config.errors import _find
from tests.mm.hooks.toy import Noisy, Toy


@MODELS.register_module()
class Inner(nn.Module):
    """Part of a model; raises what it is told to."""

    def __init__(self, size=3, error=None):
        super().__init__()
        if error is not None:
            raise AttributeError(error)
        self.layer = nn.Linear(size, 1)


@MODELS.register_module()
class Outer(Toy):

    def __init__(self, inner, others=(), fails_in_training=False):
        super().__init__()
        self.inner = MODELS.build(inner)
        self.others = [MODELS.build(other) for other in others]
        self.fails_in_training = fails_in_training

    def forward(self, *args, **kwargs):
        if self.fails_in_training:
            raise RuntimeError('a mistake in the code')
        return super().forward(*args, **kwargs)


@DATASETS.register_module()
class NoisyFiles(Noisy):

    def __init__(self, path=None):
        if path:
            open(path)  # noqa: SIM115  # is not there


@HOOKS.register_module()
class Particular(Hook):

    def before_train(self, runner):
        raise ValueError('not after an odd number')


@HOOKS.register_module()
class DrawingHook(Hook):
    """Fails in a framework's code, as MMDetection's does that is handed colours which it cannot take."""
    after_val_iter = FunctionType((lambda self, *_, **__: sum('x')).__code__, dict(__name__='mmdet.engine.hooks'))


@DATASETS.register_module()
class NoFiles(BaseDataset):

    def load_data_list(self):
        return []


@HOOKS.register_module()
class Spoiling(Hook):
    """Makes code of MMEngine fail from the second iteration on."""
    priority = 'LOWEST'

    def after_train_iter(self, runner, *args, **kwargs):
        del runner.optim_wrapper.optimizer


@pytest.fixture
def cfg(tmp_path):
    loader = dict(batch_size=4, num_workers=0, dataset=dict(type='NoisyFiles'),
                  sampler=dict(type='DefaultSampler', shuffle=False))
    return Config(dict(
        model=dict(type='Outer', inner=dict(type='Inner', size=3)), work_dir=str(tmp_path), train_dataloader=loader,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=1, val_interval=1),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=.1)), val_dataloader=loader,
        val_cfg=dict(type='ValLoop'), val_evaluator=dict(type='Rising'), default_scope='mmengine',
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)),
        experiment_name=tmp_path.name))


def train(cfg):
    with config_errors(cfg):
        Runner.from_cfg(cfg).train()


def test_a_sound_config_trains(cfg, tmp_path):
    train(cfg)
    assert (tmp_path / 'iter_1.pth').is_file()


@pytest.mark.parametrize(('options', 'words'), [
    ({'model.type': 'Wrong'}, "^model has the type 'Wrong', which mmengine does not know as a model$"),
    ({'model.inner.type': 'Wrong'}, "^model.inner has the type 'Wrong', which mmengine does not know as a model$"),
    ({'model.inner': 'wrong'}, r"^model.inner cannot be used: TypeError: cfg should be a dict.*. It is 'wrong'$"),
    ({'model.inner.size': 1.5}, r'^model.inner cannot be used: TypeError: .*. It is Inner with size=1.5$'),
    ({'model.inner.zise': 3}, r'^model.inner cannot be used: TypeError: .*zise.*. It is Inner with size=3, zise=3$'),
    ({'model.others': [dict(type='Inner'), dict(type='Inner', size=-1)]},
     r'^model.others.1 cannot be used: RuntimeError: .*. It is Inner with size=-1$'),
    ({'model.inner.error': 'mistake'}, '^model.inner cannot be used: AttributeError: mistake. It is'),
    ({'train_dataloader.batch_size': 'x'}, "^train_dataloader cannot be used: .*. It is with batch_size='x', num_"),
    ({'train_dataloader.sampler.shuffled': 1}, '^train_dataloader.sampler cannot be used: .*, shuffled=1$'),
    ({'val_dataloader.dataset.path': '/none'}, "^val_dataloader.dataset cannot be used: FileNotFound.* path='/none'$"),
    ({'optim_wrapper.optimizer.lr': 'x'}, "^optim_wrapper.optimizer cannot be used: .*. It is SGD with lr='x'$"),
    ({'train_cfg.max_iter': 3}, '^train_cfg cannot be used: .*. It is IterBasedTrainLoop with .*, max_iter=3$'),
    ({'log_level': 'LOUD'}, "^log_level cannot be used: .*'LOUD'. It is 'LOUD'$"),
    ({'param_scheduler': 5}, '^param_scheduler cannot be used: .* It is 5$'),
    ({'val_cfg': None}, '^the config cannot be used: ValueError: val_dataloader, val_cfg, and val_evaluator should be'),
    ({'custom_hooks': [dict(type='Particular')]},
     '^custom_hooks.0 cannot be used: ValueError: not after an odd number. It is Particular$'),
    ({'val_evaluator': dict(type='DumpResults', out_file_path='x.txt')}, '^val_evaluator cannot be used: ValueError'),
    # In the first iteration, and in the first validation.
    ({'optim_wrapper.clip_grad': dict(max_norm='x')}, '^optim_wrapper cannot be used: .* with .*clip_grad='),
    ({'log_processor': dict(window_size=(1, ), by_epoch=False)}, '^the config cannot be used: Assert.*window size'),
    ({'val_evaluator': dict(type='DumpResults', out_file_path='/dev/null/x.pkl')}, '^val_evaluator cannot be used: '),
])
def test_the_part_of_the_config_is_named(cfg, options, words):
    cfg.merge_from_dict(options)
    with pytest.raises(InputError, match=words) as caught:
        train(cfg)
    assert '\n' not in str(caught.value) and caught.value.__cause__ is not None


def test_the_hook_is_named_whose_error_mmengine_replaces(cfg):
    """MMEngine raises a TypeError of its own, from None, for that of a hook."""
    cfg.custom_hooks = [dict(type='IterTimerHook'), dict(type='DrawingHook')]
    with pytest.raises(InputError, match='^custom_hooks.1 cannot be used: TypeError: unsupported operand.*DrawingHook'):
        train(cfg)


def test_data_without_a_sample(cfg):
    cfg.train_dataloader.dataset = dict(type='NoFiles')
    with pytest.raises(InputError, match='^train_dataloader.dataset has no sample: no file was found, or its filters'):
        train(cfg)


def test_of_several_parts_the_one_that_was_at_work_is_named(cfg):
    given = SimpleNamespace(size=5, names=('a', ), weight=torch.ones(2))
    cfg.model.others = [dict(type='SimpleNamespace', size=3, names=('a', )), dict(type='SimpleNamespace', size=5)]
    assert _find(cfg, dict(vars(given), type='SimpleNamespace'))[0] == 'model.others.0'
    cfg.model.others[1].names = ('a', )
    assert _find(cfg, dict(vars(given), type='SimpleNamespace'))[0] == 'model.others.1'


def test_errors_of_the_users_own_code_in_training_stay_what_they_are(cfg):
    cfg.model.fails_in_training = True
    with pytest.raises(RuntimeError, match='a mistake in the code'):
        train(cfg)


def test_errors_of_later_iterations_stay_what_they_are(cfg):
    cfg.train_cfg.max_iters, cfg.custom_hooks = 2, [dict(type='Spoiling')]
    with pytest.raises(AttributeError, match='optimizer'):
        train(cfg)


@pytest.mark.parametrize('error', [InputError('x must be y'), OSError(errno.ENOSPC, 'full'), KeyboardInterrupt()],
                         ids=repr)
def test_errors_that_are_told_elsewhere_stay_what_they_are(cfg, error):
    with pytest.raises(type(error)) as caught, config_errors(cfg):
        raise error
    assert caught.value is error


def test_errors_of_other_code_stay_what_they_are(cfg):
    with pytest.raises(ZeroDivisionError), config_errors(cfg):
        1 / 0  # noqa: B018


def test_the_log_keeps_the_traceback(cfg, tmp_path, capsys):
    cfg.model.inner.size = 1.5
    with pytest.raises(SystemExit) as ending:
        run(lambda: train(cfg))
    log = next(tmp_path.glob('*/*.log'))
    printed = capsys.readouterr().err
    assert ending.value.code == 2 and printed.count('\n') == 1
    assert printed.startswith('error: model.inner cannot be used: ')
    assert printed.endswith(f' (the traceback is in {log})\n')
    assert 'in __init__\n    self.inner = MODELS.build(inner)' in log.read_text()


MACHINE = [
    torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'), MemoryError(),
    RuntimeError('CUDA error: device-side assert triggered'), RuntimeError('NCCL error in: ProcessGroupNCCL.cpp'),
    RuntimeError('[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried to allocate'),
    torch.distributed.DistBackendError('NCCL communicator was aborted'),
    RuntimeError('[gloo/transport/tcp/pair.cc] Connection closed by peer'),
]


@pytest.mark.parametrize('error', [*MACHINE, RuntimeError('shapes do not fit')], ids=str)
def test_what_the_machine_lacks_is_no_mistake_of_the_config(cfg, monkeypatch, error):
    """Raised by PyTorch, called by code of the frameworks, in the first iteration."""

    def fail(*args, **kwargs):
        raise error

    # Whose code a frame is, is read off the globals of its function.
    fail = FunctionType(fail.__code__, dict(__name__='torch.autograd'), closure=fail.__closure__)
    monkeypatch.setattr(torch.Tensor, 'backward', fail)
    if error in MACHINE:
        with pytest.raises(type(error)) as caught:
            train(cfg)
        assert caught.value is error
    else:
        with pytest.raises(InputError, match='optim_wrapper cannot be used: RuntimeError: shapes do not fit'):
            train(cfg)


def test_ctrl_c_stays_so_where_mmengine_makes_another_error_of_it(cfg, monkeypatch):
    """While it formats a config, which it does to save a checkpoint."""

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', interrupted)
    monkeypatch.setattr('mmengine.config.config.FormatCode', interrupted, raising=False)  # of older ones
    with pytest.raises(SyntaxError):
        cfg.pretty_text  # noqa: B018  formats
    with pytest.raises(KeyboardInterrupt):
        train(cfg)
