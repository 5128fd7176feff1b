from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData

from mmreplk.engine import load_config

CONFIGS = sorted((Path(__file__).parents[2] / 'configs').glob('*.py'))
REAL = next(path for path in CONFIGS if path.name == 'upernet_replknet31b_ade20k.py')
pytestmark = pytest.mark.compat


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def cfg(request):
    cfg = load_config(str(request.param))
    init_default_scope(cfg.default_scope)
    return cfg


def test_builds_and_merges(cfg):
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert {'ReparamHook', 'StrictLoadHook'} <= {hook.type for hook in cfg.custom_hooks}
    assert cfg.default_hooks.checkpoint.backend_args.backend == 'mmreplk.atomic_local'
    assert cfg.default_hooks.checkpoint.max_keep_ckpts >= 2
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end
    assert cfg.model.data_preprocessor.size == next(
        t.crop_size for t in cfg.train_dataloader.dataset.pipeline if t.type == 'RandomCrop')
    assert model.decode_head.num_classes == len(
        cfg.train_dataloader.dataset.get('metainfo', dict(classes=range(150)))['classes'])


def test_the_paper_s_numbers():
    cfg = Config.fromfile(REAL)
    with torch.device('meta'):
        init_default_scope('mmseg')
        model = MODELS.build(cfg.model)
    auxiliary = sum(p.numel() for p in model.auxiliary_head.parameters())
    assert round((sum(p.numel() for p in model.parameters()) - auxiliary) / 1e6) == 112
    optimizer, warm_up = cfg.optim_wrapper.optimizer, cfg.param_scheduler[0]
    assert (optimizer.type, optimizer.lr, optimizer.betas, optimizer.weight_decay) == ('AdamW', 2e-4, (0.9, 0.999), .05)
    assert cfg.optim_wrapper.paramwise_cfg == dict(norm_decay_mult=0)
    images = cfg.train_cfg.max_iters * 8 * cfg.train_dataloader.batch_size
    assert images == 40_000 * 64 * 2 == 5_120_000 and warm_up.end * 32 == 400 * 128
    assert cfg.auto_scale_lr == dict(enable=False, base_batch_size=128)
    assert cfg.model.backbone.drop_path_rate == 0.5 and cfg.model.test_cfg.mode == 'whole'


def test_a_training_step(cfg):
    """Every config learns from a small picture at its real depth."""
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model).train()
    sample = pytest.importorskip('mmseg.structures').SegDataSample(metainfo=dict(img_shape=(64, 64)))
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 11, (1, 64, 64)))
    losses = model(torch.randn(2, 3, 64, 64), [sample, sample.clone()], mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in model.parameters() if p.requires_grad)
