"""The recipes of docs/other_configs.md, on configs that the frameworks ship."""

import copy
import importlib
import re
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.utils import is_installed

from mmreplk import RepLKNet
from mmreplk.mm.config import load_config
from tests.configs.test_configs import inputs

PAGE = Path(__file__).parents[2] / 'docs/other_configs.md'
RECIPES = {re.search(r"_base_ = '\w+::(\S+?)/", recipe).group(1): recipe
           for recipe in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)}  # yapf: disable
# 31B's widths, and so its recipes, at a depth that a test can afford.
SHALLOW = dict(large_kernel_sizes=[13, 13, 13, 7], layers=[1, 1, 1, 1], channels=[128, 256, 512, 1024], small_kernel=5)

def test_all_kinds_are_there():
    assert list(RECIPES) == [
        'deeplabv3plus', 'pspnet', 'segformer', 'mask2former', 'retinanet', 'faster_rcnn', 'mask_rcnn', 'atss', 'dino'
    ]


@pytest.mark.parametrize('kind', RECIPES)
def test_recipe(kind, tmp_path):
    recipe = RECIPES[kind]
    framework = re.search(r"_base_ = '(\w+)::", recipe).group(1)
    shipped = Path(pytest.importorskip(framework).__file__).parent / '.mim/configs'
    if framework == 'mmseg' and not is_installed('mmsegmentation'):
        recipe = recipe.replace('mmseg::', f'{shipped}/')
    (tmp_path / 'config.py').write_text(recipe)
    cfg = load_config(str(tmp_path / 'config.py'))
    for module in cfg.custom_imports.imports:
        importlib.import_module(module)
    init_default_scope(framework)
    with torch.device('meta'):
        assert isinstance(MODELS.build(copy.deepcopy(cfg.model)).backbone, RepLKNet)
    cfg.model.backbone.arch = SHALLOW
    if 'num_queries' in cfg.model:
        cfg.model.num_queries = 20  # a picture of 64x64 has 85 places for them
    model = MODELS.build(cfg.model).train()
    loss, _ = model.parse_losses(model(*inputs(cfg), mode='loss'))
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in model.backbone.parameters())
