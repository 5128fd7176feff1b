"""MMEngine's runner, also in several processes without GPUs."""

import os

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner
from mmengine.utils import ManagerMixin

from ..errors import InputError
from .kinds import kind_of

SHARDING = ('FSDPStrategy', 'DeepSpeedStrategy', 'ColossalAIStrategy', 'MMFullyShardedDataParallel')


def build_runner(cfg: Config) -> Runner:
    """Builds the runner that ``cfg`` describes, a :class:`Runner` unless ``runner_type`` says otherwise.

    Raises:
        InputError: If it would shard the parameters over the processes.
    """
    for key in ('strategy', 'model_wrapper_cfg'):
        kind = kind_of(cfg.get(key))
        if kind in SHARDING:
            raise InputError(f'{key} {kind!r} shards the parameters over the processes, where merging kernels and '
                             f'checking gradients need whole ones; train without {key}, by DistributedDataParallel')
    if cfg.launcher == 'pytorch' and 'RANK' not in os.environ:
        raise InputError("the launcher 'pytorch' is torchrun's, which has not started this process: use "
                         'tools/dist_train.sh or tools/dist_test.sh')
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        # MMEngine would start the processes by choosing a GPU for each, and wrap the model for one.
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group('gloo')
        cfg.setdefault(
            'model_wrapper_cfg',
            dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=cfg.get('find_unused_parameters', False)))
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def close_runner(runner: Runner) -> None:
    """Lets go of what stays of a runner: processes that load data, log files, message hub, visualizer.

    A process that builds one runner after the other would otherwise hold ever more. The runner is not to be used any
    more.
    """
    for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
        if isinstance(loop, BaseLoop):
            # Left to the garbage collector, which ends their queues first, the processes hang for 5 s each.
            vars(loop).pop('dataloader_iterator', None)
            vars(loop.dataloader)['_iterator'] = None
    runner.visualizer.close()
    for handler in runner.logger.handlers:
        handler.close()
    kept = (runner.visualizer, runner.logger, runner.message_hub)
    for name in {runner.experiment_name, *(one.instance_name for one in kept)}:
        for kind in _kinds(ManagerMixin):
            kind._instance_dict.pop(name, None)


def _kinds(base: type) -> list[type]:
    return [base, *(kind for child in base.__subclasses__() for kind in _kinds(child))]
