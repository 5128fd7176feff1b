"""MMEngine's runner, also in several processes without GPUs."""

import logging

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..errors import InputError
from .hooks import ResumeHook
from .internals import built_loops, instances_by_name
from .kinds import kind_of
from .processes import join_processes

_FOR_THE_FILE = ('System environment:', 'Config:\n', 'Hooks will be executed in the following order:',
                 'paramwise_options')  # the last for each norm and bias
SHARDING = ('FSDPStrategy', 'DeepSpeedStrategy', 'ColossalAIStrategy', 'MMFullyShardedDataParallel')


class QuietRunner(Runner):
    """A runner whose log file alone has what is many screens long.

    That is the environment, the config, the order of hooks, and what each parameter's learning rate and decay are.
    """

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Builds MMEngine's logger, and says where its file is."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_for_the_screen)
            else:
                logger.info(f'The log, with environment and config, is {handler.baseFilename}')
        return logger


def _is_for_the_screen(record: logging.LogRecord) -> bool:
    """Says whether a record is none of those that fill the screen while MMEngine builds a runner."""
    return record.levelno > logging.INFO or not str(record.msg).lstrip('-\n').startswith(_FOR_THE_FILE)


def build_runner(cfg: Config, verbose: bool = False) -> Runner:
    """Builds the runner that ``cfg`` describes, a :class:`QuietRunner` unless ``runner_type`` says otherwise.

    It executes nothing that a checkpoint holds unless :func:`mmreplk.mm.trust.allow_pickles` has allowed it.

    Args:
        cfg: The config.
        verbose: Whether environment and config are shown on the screen, too.

    Raises:
        InputError: If it would shard the parameters over the processes.
    """
    for key in ('strategy', 'model_wrapper_cfg'):
        kind = kind_of(cfg.get(key))
        if kind in SHARDING:
            raise InputError(f'{key} {kind!r} shards the parameters over the processes, but merging kernels and '
                             f'checking gradients need whole ones; train without {key}, by DistributedDataParallel')
    join_processes(cfg)
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        # MMEngine would wrap the model for a GPU.
        cfg.setdefault(
            'model_wrapper_cfg',
            dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=cfg.get('find_unused_parameters', False)))
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else (Runner if verbose else QuietRunner).from_cfg(cfg)
    if not any(isinstance(hook, ResumeHook) for hook in runner.hooks):
        runner.register_hook(ResumeHook())
    return runner


def close_runner(runner: Runner) -> None:
    """Releases what a runner leaves behind: processes that load data, log files, message hub, visualizer.

    A process that builds one runner after another would otherwise hold ever more. The runner cannot be used afterwards.
    """
    for loop in built_loops(runner):
        # The garbage collector would close their queues first, and each process would hang for 5 s.
        vars(loop).pop('dataloader_iterator', None)
        vars(loop.dataloader)['_iterator'] = None
    runner.visualizer.close()
    for handler in runner.logger.handlers:
        handler.close()
    kept = (runner.visualizer, runner.logger, runner.message_hub)
    for name in {runner.experiment_name, *(one.instance_name for one in kept)}:
        for instances in instances_by_name():
            instances.pop(name, None)
