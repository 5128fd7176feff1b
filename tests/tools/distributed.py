"""What the tests of several processes put into a config: imported by each process through ``custom_imports``."""

import json
import os
import signal
from pathlib import Path

import torch
import torch.distributed.nn.functional
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS
from torch import nn


def mean_over_processes(x):
    processes = get_dist_info()[1]
    return x if processes == 1 else torch.distributed.nn.functional.all_reduce(x) / processes


@MODELS.register_module()
class GlooSyncBN(nn.BatchNorm2d):
    """SyncBN for CPUs, where PyTorch has none: statistics over the batches of all processes, which must be alike."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        count = x.numel() // x.shape[1] * get_dist_info()[1]
        mean = mean_over_processes(x.mean((0, 2, 3)))
        centred = x - mean.view(1, -1, 1, 1)
        var = mean_over_processes(centred.square().mean((0, 2, 3)))
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(var + self.eps)
        return centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


@HOOKS.register_module()
class Recorder(Hook):
    """Writes down the losses and metrics of every process, which have different running statistics before each."""

    def __init__(self):
        self.losses, self.metrics = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())

    def before_val(self, runner):
        for name, buffer in runner.model.named_buffers():  # not those of the preprocessor, with which they train on
            if 'running_' in name:
                buffer += 10 * runner.rank

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append({name: float(value) for name, value in metrics.items()})

    def after_train(self, runner):
        path = Path(runner.work_dir, f'process_{runner.rank}.json')
        path.write_text(json.dumps(dict(losses=self.losses, metrics=self.metrics)))


@HOOKS.register_module()
class Death(Hook):
    """Ends one process in the middle of training."""

    def __init__(self, rank, iteration, by):
        self.rank, self.iteration, self.by = rank, iteration, by

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if (runner.rank, runner.iter) == (self.rank, self.iteration):
            if self.by == 'exit':
                os._exit(3)
            if self.by == 'kill':
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError('process one is ill')
