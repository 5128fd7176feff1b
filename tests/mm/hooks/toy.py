"""A network and data that use every source of randomness, small enough to train in a second."""

import random
import uuid

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset


@DATASETS.register_module()
class Noisy(Dataset):
    """Eight constant inputs with noise from all generators that transforms use."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        noise = random.random() + np.random.rand() + torch.rand(())
        return dict(inputs=torch.full((3, ), float(index)) + noise,
                    data_samples=BaseDataElement(metainfo=dict(img_path=f'{index}.png')))


@MODELS.register_module()
class Toy(BaseModel):
    """Dropout, a BatchNorm and a Linear; the loss becomes ``poison`` in the iterations of ``poisoned`` (from 1)."""

    def __init__(self, poisoned=(), poison=float('nan')):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(3, 1)
        self.poisoned, self.poison, self.count = poisoned, poison, 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = torch.stack(inputs) if isinstance(inputs, list) else inputs
        if mode != 'loss':
            return [self.head(self.norm(x))]
        self.count += torch.is_grad_enabled()  # not where the hook looks for the cause
        if self.count in self.poisoned:
            x = x * self.poison
        return dict(loss=self.head(nn.functional.dropout(self.norm(x))).square().mean())


@METRICS.register_module()
class Rising(BaseMetric):
    """A metric that rises with every evaluation, so that each is the best."""

    def process(self, data_batch, data_samples):
        self.results.append(float(data_samples[0].sum()))

    def compute_metrics(self, results):
        Rising.score = getattr(Rising, 'score', 0) + 1
        return dict(score=Rising.score)


class Interrupted(BaseException):
    """What ends a run without any chance to clean up."""


class InterruptAt(Hook):
    """Ends the run at the beginning of an iteration (from 0), or of a validation."""

    def __init__(self, iteration=None, validation=None):
        self.iteration, self.validation = iteration, validation

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            raise Interrupted

    def before_val(self, runner):
        if runner.iter == self.validation:
            raise Interrupted


class DataSeen(Hook):
    """Keeps what each iteration was trained on."""
    priority = 'VERY_HIGH'

    def __init__(self):
        self.inputs = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.inputs[runner.iter] = torch.stack(data_batch['inputs'])


def toy_options(work_dir, by_epoch=False, end=6, val_interval=2, seed=3, checkpoint=None):
    """Returns what a runner over the toy is told: checkpoints every second iteration or every epoch, of two batches."""
    unit = 'epochs' if by_epoch else 'iters'
    return dict(
        model=dict(type='Toy'),
        work_dir=str(work_dir),
        train_dataloader=dict(
            num_workers=0, dataset=dict(type='Noisy'), batch_size=4,
            sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True)),
        train_cfg={'type': 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop', f'max_{unit}': end,
                   'val_interval': val_interval},
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2)),
        val_dataloader=dict(
            num_workers=0, dataset=dict(type='Noisy'), batch_size=4,
            sampler=dict(type='DefaultSampler', shuffle=False)),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=[dict(type='Rising')],
        param_scheduler=dict(type='PolyLR', by_epoch=by_epoch, end=end),
        default_hooks=dict(
            logger=dict(type='LoggerHook', log_metric_by_epoch=False),
            checkpoint=dict(dict(type='SafeCheckpointHook', by_epoch=by_epoch, interval=1 if by_epoch else 2,
                                 max_keep_ckpts=2, backend_args=dict(backend='mmreplk.atomic_local')),
                            **(checkpoint or {}))),
        log_processor=dict(by_epoch=by_epoch),
        randomness=dict(seed=seed),
        default_scope='mmengine',
        experiment_name=f'toy{uuid.uuid4().hex}')


def toy_config(work_dir, **options):
    """Returns :func:`toy_options` as the config of a run."""
    return Config(dict(toy_options(work_dir, **options), launcher='none'))


def make_runner(work_dir, *hooks, model=None, optim_wrapper=None, by_epoch=False, end=6, val_interval=2, seed=3,
                checkpoint=None, **options):
    """Returns a runner over the toy, as :func:`toy_options` describe it with ``options`` in the place of theirs."""
    torch.manual_seed(11)
    given = toy_options(work_dir, by_epoch, end, val_interval, seed, checkpoint)
    given.update(model=model or Toy(), custom_hooks=list(hooks), **options)
    if optim_wrapper is not None:
        given.update(optim_wrapper=optim_wrapper)
    return Runner(**given)
