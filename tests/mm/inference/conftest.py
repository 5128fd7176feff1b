from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmreplk.mm.config import load_config
from mmreplk.mm.inference import Predictor
from tests.conftest import randomize

ROOT = Path(__file__).parents[3]
SEGMENTATION = 'configs/upernet_replknet_tiny_camvid.py'
DETECTION = 'configs/cascade_mask_rcnn_replknet_tiny_minicoco.py'
ARCH = dict(large_kernel_sizes=[7, 7, 5, 5], layers=[1, 1, 1, 1], channels=[8, 8, 8, 8], small_kernel=3)
SMALL = {
    SEGMENTATION: {
        'model.backbone.arch': ARCH,
        'model.decode_head.in_channels': [8] * 4,
        'model.decode_head.channels': 8
    },
    DETECTION: {
        'model.backbone.arch': ARCH,
        'model.neck.in_channels': [8] * 4,
        'model.test_cfg.rpn.nms_pre': 50,
        'model.test_cfg.rpn.max_per_img': 50,
        'model.test_cfg.rcnn.score_thr': 0.0,
        'model.test_cfg.rcnn.max_per_img': 10
    },
}


def small_config(name, **overrides):
    return load_config(str(ROOT / name), SMALL[name] | overrides)


def save_random(name, path, **meta):
    """Saves a checkpoint of random weights; returns the model."""
    cfg = small_config(name)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = randomize(MODELS.build(cfg.model)).eval()
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
    return model


def picture(height=64, width=64, seed=0):
    """Returns smooth noise, BGR."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 8, 8)))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode='bicubic')
    return smooth[0].permute(1, 2, 0).clamp(0, 255).byte().contiguous().numpy()


@pytest.fixture(scope='session')
def checkpoints(tmp_path_factory):
    """Checkpoints of random weights, by config."""
    paths = {}
    for name in (SEGMENTATION, DETECTION):
        paths[name] = tmp_path_factory.mktemp('checkpoint') / 'random.pth'
        save_random(name, paths[name])
    return paths


@pytest.fixture(scope='session')
def segmentor(checkpoints):
    return Predictor(small_config(SEGMENTATION), checkpoints[SEGMENTATION], batch_size=2, device='cpu')


@pytest.fixture(scope='session')
def detector(checkpoints):
    return Predictor(small_config(DETECTION), checkpoints[DETECTION], device='cpu', least_score=0.0)
