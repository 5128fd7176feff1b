"""The recipes of docs/other_configs.md, on configs that the frameworks ship."""

import copy
import importlib
import re

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmreplk import RepLKNet
from mmreplk.mm.config import load_config
from mmreplk.networks import NETWORKS
from tests.configs.narrowing import few, inputs
from tests.configs.recipes import PAGE, RECIPES, SHALLOW

# Network, arch and four widths.
TABLE = [re.findall(r'\w+', row) for row in re.findall(r'^\| `\w+` \|.*$', PAGE.read_text(), re.M)]


def test_all_kinds_are_there():
    assert list(RECIPES) == [
        'deeplabv3plus', 'pspnet', 'segformer', 'mask2former', 'retinanet', 'faster_rcnn', 'mask_rcnn', 'atss', 'dino'
    ]


def config_of(recipe, folder):
    framework = re.search(r"_base_ = '(\w+)::", recipe).group(1)
    pytest.importorskip(framework)
    (folder / 'config.py').write_text(recipe)
    cfg = load_config(str(folder / 'config.py'))
    for module in cfg.custom_imports.imports:
        importlib.import_module(module)
    init_default_scope(framework)
    return cfg


def test_the_table_has_every_network():
    assert {(network, arch): channels for network, arch, *channels in TABLE} == {
        (name, arch): [str(width) for width in known.channels]
        for name, network in NETWORKS.items() for arch, known in network.Arch.NAMED.items()
    }


@pytest.mark.parametrize(('network', 'arch'), [row[:2] for row in TABLE])
def test_a_recipe_with_another_network(network, arch, tmp_path):
    """The type, the arch and the widths in their places, and the model builds."""
    rows = {tuple(row[:2]): row[2:] for row in TABLE}
    widths = dict(zip(rows['RepLKNet', '31B'], rows[network, arch], strict=True))
    recipe = re.sub(r'\b(?:128|256|512|1024)\b(?!x)', lambda match: widths[match[0]], RECIPES['mask_rcnn'])
    cfg = config_of(recipe.replace("type='RepLKNet', arch='31B'", f"type='{network}', arch='{arch}'"), tmp_path)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        features = model.extract_feat(torch.zeros(1, 3, 64, 64))
    assert isinstance(model.backbone, NETWORKS[network]) and len(features) == 5


@pytest.mark.parametrize('kind', RECIPES)
def test_recipe(kind, tmp_path):
    cfg = config_of(RECIPES[kind], tmp_path)
    with torch.device('meta'):
        assert isinstance(MODELS.build(copy.deepcopy(cfg.model)).backbone, RepLKNet)
    cfg.model.backbone.arch = SHALLOW
    few(cfg.model)
    model = MODELS.build(cfg.model).train()
    model.init_weights()  # DINO's embedding of levels is whatever lay in its memory before
    loss, _ = model.parse_losses(model(*inputs(cfg), mode='loss'))
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in model.backbone.parameters())
