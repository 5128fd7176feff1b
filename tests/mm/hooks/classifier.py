"""A real network that is small, learning to tell noise apart in a real run of MMEngine."""

import uuid

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmreplk import RepLKNet


class Pictures(Dataset):

    def __init__(self, count):
        self.images = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return dict(inputs=self.images[i], label=i % 2)


class Classifier(BaseModel):

    def __init__(self, backbone=None):
        super().__init__()
        self.backbone = backbone or RepLKNet(
            dict(large_kernel_sizes=[7, 5], layers=[1, 1], channels=[4, 8], small_kernel=3), out_indices=[1])
        self.head = nn.Linear(8, 2)

    def forward(self, inputs, label, mode='tensor'):
        logits = self.head(self.backbone(inputs)[-1].mean((2, 3)))
        return dict(loss=nn.functional.cross_entropy(logits, label)) if mode == 'loss' else [logits]


class Logits(BaseMetric):

    def process(self, data_batch, data_samples):
        self.results.append(data_samples[0])

    def compute_metrics(self, results):
        return dict(logits=torch.cat([torch.as_tensor(r) for r in results]).reshape(-1).tolist())


class Losses(Hook):

    def __init__(self):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())


class Plain(nn.Module):

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x):
        return [self.conv(x)]


def make_runner(tmp_path, *hooks, val_interval=2, max_iters=6, model=None, metric=None, seed=3, **options):
    torch.manual_seed(seed)
    loader = dict(num_workers=0, collate_fn=dict(type='default_collate'))
    given = dict(
        model=model or Classifier(),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            loader, dataset=Pictures(8), batch_size=4, sampler=dict(type='InfiniteSampler', shuffle=True)),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=val_interval),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-2)),
        val_dataloader=dict(
            loader, dataset=Pictures(4), batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_cfg=dict(type='ValLoop'),
        val_evaluator=[metric or Logits()],
        custom_hooks=list(hooks),
        default_hooks=dict(
            logger=dict(type='LoggerHook', log_metric_by_epoch=False),
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        log_processor=dict(by_epoch=False),
        randomness=dict(seed=seed),
        default_scope='mmengine',
        experiment_name=uuid.uuid4().hex)
    return Runner(**dict(given, **options))
