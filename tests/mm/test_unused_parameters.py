"""Under DistributedDataParallel every parameter needs a gradient: training ends in iteration 2 otherwise."""

import itertools

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

from mmreplk.mm.processes import join_processes
from mmreplk.mm.runner import build_runner
from mmreplk.networks import NETWORKS
from tests.mm.hooks.toy import toy_config
from tests.processes import in_two_processes

SIZES = dict(layers=[1, 1, 1, 1], channels=[4, 8, 12, 16])
# As small as they go; RepLKNet with XL's norms of features.
ARCHS = {
    'RepLKNet': dict(SIZES, large_kernel_sizes=[7, 7, 5, 5], small_kernel=3, norm_intermediate_features=True),
    'UniRepLKNet': dict(SIZES, kernel_sizes=[[3], [7], [7], [7]]),
    'SLaK': dict(SIZES, large_kernel_sizes=[13, 11, 9, 7], small_kernel=5),
}
# What segmentors take, what RetinaNet, FCOS, ATSS and DINO take, and what leaves the last stages out.
OUT_INDICES = [(0, 1, 2, 3), (1, 2, 3), (2, 3), (0, 2), (1, )]


@MODELS.register_module()
class OnFeatures(BaseModel):
    """A layer on each feature that a backbone hands out, and perhaps one on nothing."""

    def __init__(self, backbone, has_unused=False):
        super().__init__()
        self.backbone = MODELS.build(backbone)
        self.heads = nn.ModuleList(nn.Linear(channels, 1) for channels in self.backbone.channels)
        self.unused = nn.Linear(1, 1) if has_unused else None

    def forward(self, inputs, data_samples=None, mode='tensor'):
        images = torch.stack(inputs) if isinstance(inputs, list) else inputs
        images = images[:, :, None, None].expand(-1, -1, 64, 64) + torch.rand(64, 64)
        outs = [head(x.mean((2, 3))) for head, x in zip(self.heads, self.backbone(images), strict=True)]
        return dict(loss=sum(out.square().mean() for out in outs)) if mode == 'loss' else [outs[-1]]


def train(work_dir, models):
    """Returns for each model how many iterations it made, or what ended them."""
    made = []
    for model in models:
        cfg = toy_config(work_dir, end=2, val_interval=10)
        cfg.update(launcher='pytorch', model=dict(type='OnFeatures', **model))
        join_processes(cfg)
        runner = build_runner(cfg)
        try:
            runner.train()
            made.append(runner.iter)
        except RuntimeError as error:
            made.append(str(error).splitlines()[0])
    return made


@pytest.mark.parametrize('name', NETWORKS)
def test_what_no_output_uses_does_not_end_training(tmp_path, name):
    models = [dict(backbone=dict(type=name, arch=ARCHS[name], out_indices=out_indices, with_cp=with_cp,
                                 drop_path_rate=.5, frozen_stages=frozen))
              for out_indices, (with_cp, frozen) in itertools.product(OUT_INDICES, [(False, -1), (True, 1)])
              if max(out_indices) > 1 or frozen < 1]
    assert in_two_processes(train, str(tmp_path), models) == [[2] * len(models)] * 2


def test_a_parameter_without_a_gradient_would_have_ended_it(tmp_path):
    backbone = dict(type='UniRepLKNet', arch=ARCHS['UniRepLKNet'], out_indices=(1, 2, 3))
    for said in in_two_processes(train, str(tmp_path), [dict(backbone=backbone, has_unused=True)]):
        assert said[0].startswith('Expected to have finished reduction in the prior iteration')
