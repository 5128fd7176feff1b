"""What docs/own_dataset.md says works as it stands, on data as a user has them."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmreplk.mm.building import build_empty_model
from mmreplk.mm.config import load_config
from tests.docs.conftest import run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/own_dataset.md').read_text()
RECIPES = {re.search(r'configs/(\w+)\.py', block).group(1): block
           for block in re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)}
SEGMENTATION, DETECTION = 'upernet_replknet_tiny_mine', 'cascade_mask_rcnn_replknet_tiny_mine'
# Not the longer recipe, whose loss weighs CamVid's classes, and not that for nuclei with larger crops.
TINY = {path.stem: DETECTION if 'rcnn' in path.stem else SEGMENTATION
        for path in sorted((ROOT / 'configs').glob('*_tiny_*.py')) if not path.stem.endswith(('_10k', '_512'))}
COMMANDS = re.findall(r'^python (tools.*)$', PAGE.replace('\\\n', ' '), re.M)
SHORT = [
    'train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2',
    'default_hooks.logger.interval=1', 'param_scheduler.0.end=1', 'param_scheduler.1.begin=1',
    'param_scheduler.1.end=2', 'train_dataloader.batch_size=2', *(
        f'{split}_dataloader.{option}' for split in ('train', 'val', 'test')
        for option in ('num_workers=0', 'persistent_workers=False'))
]
FEW = [
    'model.test_cfg.rcnn.score_thr=0.0', 'model.test_cfg.rcnn.max_per_img=10', 'model.test_cfg.rpn.max_per_img=30',
    'model.train_cfg.rpn_proposal.max_per_img=30', *(
        f'model.train_cfg.rcnn.{stage}.sampler.num=32' for stage in range(3))
]


def scene(rng):
    """Returns a picture with two bright rectangles, and their corners and sizes."""
    picture = rng.integers(0, 80, (72, 96, 3), np.uint8)
    boxes = [(8, 10, 30, 30), (50, 20, 40, 40)]
    for (x, y, width, height), colour in zip(boxes, ((120, 0, 0), (0, 0, 120)), strict=True):
        picture[y:y + height, x:x + width] += np.array(colour, np.uint8)
    return picture, boxes


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the page's layouts of data: PNG pictures, and categories 3 and 7."""
    rng = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 2)):
        images, annotations = [], []
        for place in (f'img_dir/{split}', f'ann_dir/{split}', split, 'annotations'):
            (tmp_path / 'data/mine' / place).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture, boxes = scene(rng)
            labels = np.zeros(picture.shape[:2], np.uint8)
            for category, (x, y, width, height) in zip((3, 7), boxes, strict=True):
                labels[y:y + height, x:x + width] = 1
                corners = [x, y, x + width, y, x + width, y + height, x, y + height]
                annotations.append(dict(
                    id=len(annotations) + 1, image_id=i, category_id=category, bbox=[x, y, width, height],
                    area=width * height, iscrowd=0, segmentation=[corners]))
            images.append(dict(id=i, file_name=f'{i}.png', width=96, height=72))
            for path, pixels in ((f'img_dir/{split}', picture), (split, picture), (f'ann_dir/{split}', labels)):
                cv2.imwrite(str(tmp_path / 'data/mine' / path / f'{i}.png'), pixels)
        (tmp_path / f'data/mine/annotations/{split}.json').write_text(json.dumps(dict(
            images=images, annotations=annotations,
            categories=[dict(id=3, name='cat'), dict(id=7, name='dog')])))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(recipe, folder, base=None):
    """Writes a recipe as the page has it, only that its base is where the configs are."""
    given = re.search(r"_base_ = '(\w+)\.py'", RECIPES[recipe]).group(1)
    path = folder / 'configs' / f'{recipe}.py'
    path.parent.mkdir(exist_ok=True)
    path.write_text(RECIPES[recipe].replace(f"'{given}.py'", f"'{ROOT}/configs/{base or given}.py'"))
    return path


def test_the_page_names_all_tiny_configs():
    assert set(TINY.values()) <= {*RECIPES}
    for base in TINY:
        assert f'{base}.py`' in PAGE or f"'{base}.py'" in PAGE, base
    assert [command.split()[0] for command in COMMANDS] == [
        'tools/analysis_tools/check_dataset.py', 'tools/train.py', 'tools/test.py',
        'tools/analysis_tools/contact_sheet.py', 'tools/predict.py'
    ]


@pytest.mark.parametrize('base', TINY)
def test_a_tiny_recipe_is_checked_trained_drawn_and_predicted_with(base, folder, monkeypatch, capfd):
    recipe = TINY[base]
    written(recipe, folder, base)
    options = SHORT + (FEW if recipe == DETECTION else [])
    for command in COMMANDS:
        command = command.replace(SEGMENTATION, recipe).replace('iter_1500', 'iter_2')
        command = command.replace('img_dir/val', 'val') if recipe == DETECTION else command
        assert run(command, monkeypatch, *options) == 0, (command, capfd.readouterr().err)
    out = folder / 'work_dirs/mine'
    assert {path.name for path in out.glob('predicted/overlays/*')} == {'0.jpg', '1.jpg'}
    assert len(list(out.glob('shown/**/*.png'))) == 2
    assert cv2.imread(str(out / 'sheet.png')).shape[0] >= 2 * 72
    screen = capfd.readouterr().out
    assert 'train: 4 images, as they should be' in screen and 'System environment' not in screen
    if recipe == SEGMENTATION:
        labels = cv2.imread(str(out / 'predicted/raw/0.png'), cv2.IMREAD_UNCHANGED)
        assert labels.shape[:2] == (72, 96) and len(list((out / 'maps').glob('*.png'))) == 2
        return
    raw = json.loads((out / 'predicted/raw/0.json').read_text())
    assert raw['categories'] == [dict(id=3, name='cat'), dict(id=7, name='dog')]
    for found in (raw['annotations'], *(json.loads(path.read_text()) for path in (out / 'maps').glob('*.json'))):
        assert found and {one['category_id'] for one in found} <= {3, 7}


@pytest.mark.parametrize('recipe', [name for name in RECIPES if 'tiny' not in name])
def test_a_large_recipe_has_its_classes_everywhere(recipe, folder):
    cfg = Config.fromfile(written(recipe, folder))
    heads = [*cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head] if 'rcnn' in recipe else [
        cfg.model.decode_head, cfg.model.auxiliary_head]
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.data_root.startswith('data/mine')
        assert all(head.num_classes == len(loader.dataset.metainfo.classes) for head in heads)
    assert cfg.train_dataloader.dataset.pipeline[0].type == 'LoadImageFromFile'
    build_empty_model(load_config(str(folder / f'configs/{recipe}.py')))
