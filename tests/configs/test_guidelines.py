"""The configs of the paper's guidelines differ in what their names say, and train."""

import json
import runpy
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData

from mmreplk import ReparamLargeKernelConv
from mmreplk.mm.benchmarks.comparison import comparison_table
from mmreplk.mm.config import load_config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'configs/guidelines'
# By name: extents of the first and the last large kernels, whether small ones are beside them, number of shortcuts.
EXPECTED = dict(
    k3=(3, 3, False, 10),
    k3_no_shortcuts=(3, 3, False, 0),
    k13=(13, 13, False, 10),
    k13_no_shortcuts=(13, 13, False, 0),
    k13_small3=(13, 13, True, 10),
    last_k3=(3, 3, True, None),
    last_k7=(3, 7, True, None),
    last_k13=(3, 13, True, None))


def test_all_are_expected():
    assert {path.stem for path in FOLDER.glob('*.py')} == {'base', 'base_last', *EXPECTED}


@pytest.mark.parametrize('name', EXPECTED)
def test_each_is_what_its_name_says(name):
    mmseg = pytest.importorskip('mmseg.structures')
    cfg = load_config(str(FOLDER / f'{name}.py'))
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    layers = [m for m in model.backbone.modules() if isinstance(m, ReparamLargeKernelConv)]
    small = any(hasattr(layer, 'small_conv') for layer in layers)
    sizes = layers[0].lkb_origin.conv.kernel_size[0], layers[-1].lkb_origin.conv.kernel_size[0]
    shortcuts = [block.shortcut for block in model.backbone.modules() if hasattr(block, 'shortcut')]
    assert (*sizes, small, sum(shortcuts) if shortcuts else None) == EXPECTED[name]
    sample = mmseg.SegDataSample(metainfo=dict(img_shape=(64, 64)))
    sample.gt_sem_seg = PixelData(data=torch.randint(0, 11, (1, 64, 64)))
    loss, _ = model.parse_losses(model(torch.randn(2, 3, 64, 64), [sample, sample], mode='loss'))
    assert loss.isfinite()


def test_the_page_shows_the_committed_figures():
    page, figures = (ROOT / 'docs/guidelines.md').read_text(), ROOT / 'docs/benchmarks'
    assert comparison_table(json.loads((figures / 'camvid_backbones.json').read_text())) in page
    table = runpy.run_path(str(ROOT / 'tools/dev/surroundings.py'))['table']
    sizes = [f'surroundings_k{size}{alone}' for size in (3, 7, 13, 25, 31) for alone in ('', '_alone')]
    shortcuts = [name for name in EXPECTED if name.startswith('k')]
    last_stage = [name for name in EXPECTED if name.startswith('last')]
    for file, names in (('surroundings', sizes), ('shortcuts', shortcuts), ('last_stage', last_stage)):
        rows = json.loads((figures / f'{file}.json').read_text())['results']
        assert table(rows) in page
        assert {(row['config'], row['seed']) for row in rows} == {(name, seed) for name in names for seed in range(3)}
