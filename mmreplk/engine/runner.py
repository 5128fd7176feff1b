"""MMEngine's runner, also in several processes without GPUs, and models without weights."""

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from ..errors import InputError

SHARDING = ('FSDPStrategy', 'DeepSpeedStrategy', 'ColossalAIStrategy')


def build_runner(cfg: Config) -> Runner:
    """Builds the runner that ``cfg`` describes, a :class:`Runner` unless ``runner_type`` says otherwise.

    Raises:
        InputError: If it would shard the parameters over the processes.
    """
    strategy = (cfg.get('strategy') or {}).get('type')
    if strategy in SHARDING:
        raise InputError(f'strategy {strategy!r} shards the parameters over the processes, where merging kernels and '
                         'checking gradients need whole ones; train without a strategy, by DistributedDataParallel')
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        # MMEngine would start the processes by choosing a GPU for each, and wrap the model for one.
        torch.distributed.init_process_group('gloo')
        cfg.setdefault(
            'model_wrapper_cfg',
            dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=cfg.get('find_unused_parameters', False)))
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def build_empty_model(cfg: Config) -> nn.Module:
    """Builds the model that ``cfg`` describes on the meta device: shapes without weights."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    # Swin, for one, computes with tensors while it is being built, which that device does not.
    with torch.device('meta' if cfg.model.backbone.type == 'RepLKNet' else 'cpu'):
        return MODELS.build(cfg.model).to('meta')
