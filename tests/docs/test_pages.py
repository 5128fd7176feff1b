"""What pages tell to type is typed, and does what they say."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmreplk.mm.checks.dataset import dataset_class
from mmreplk.mm.config import load_config
from mmreplk.mm.data import make_mini_ade20k
from mmreplk.mm.data.categories import COCO_IDS
from tests.configs.recipes import RECIPES, SHALLOW
from tests.docs.conftest import ROOT, run

DATASETS = (ROOT / 'docs/datasets.md').read_text()
CAMVID = 'configs/upernet_replknet_tiny_camvid.py'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder from which ``configs/`` is seen as from the root of a checkout."""
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(path, labels=False):
    rng = np.random.default_rng(len(str(path)))
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 11, (72, 96), np.uint8) if labels else rng.integers(0, 255, (72, 96, 3), np.uint8)
    cv2.imwrite(str(path), pixels)


@pytest.mark.parametrize(('kind', 'config'), [
    ('ade20k', 'upernet_replknet_tiny_miniade20k'), ('coco', 'cascade_mask_rcnn_replknet_tiny_minicoco'),
])
def test_data_that_are_drawn_lie_where_configs_look_for_them(kind, config, folder, monkeypatch, capfd):
    command, = re.findall(rf'`python (tools/dataset_converters/\S+ {kind} \S+)`', DATASETS)
    check = f'tools/analysis_tools/check_dataset.py configs/{config}.py'
    assert run(check, monkeypatch) == 2
    said = capfd.readouterr().err
    assert f'"python {command}"' in said and f"'{folder}/data/mini_" in said
    assert run(f'{command} --num-train 4 --num-val 2', monkeypatch) == 0
    counts = ('data_counts.train=4', 'data_counts.val=2')
    assert run(check, monkeypatch, *counts) == 0
    (folder / 'data' / f'mini_{kind}').rename(folder / 'my data')
    key, = re.findall(r'--cfg-options "(\w+)=', DATASETS)
    assert run(check, monkeypatch, *counts, f'{key}={folder}/my data') == 0


def test_camvid_elsewhere_is_named_by_the_key_that_the_message_says(folder, monkeypatch, capfd):
    assert run(f'tools/train.py {CAMVID}', monkeypatch) == 2
    *_, said = capfd.readouterr().err.splitlines()
    assert f"'{folder}/data/camvid/img_dir/train' does not exist" in said and 'Get the CamVid folder of http' in said
    key = re.search(r'--cfg-options (\w+)=FOLDER\.$', said).group(1)
    for split in ('train', 'val', 'test'):
        for i in range(2):
            draw(folder / f'my camvid/img_dir/{split}/{i}.jpg')
            draw(folder / f'my camvid/ann_dir/{split}/{i}.png', labels=True)
    options = [f'{key}={folder}/my camvid', *(f'data_counts.{split}=2' for split in ('train', 'val', 'test'))]
    assert run(f'tools/analysis_tools/check_dataset.py {CAMVID}', monkeypatch, *options) == 0


def test_predicting_in_python(folder, capsys):
    """The lines of the page, with a checkpoint of random weights."""
    at_once, code = re.findall(r'```python\n(.*?)```', (ROOT / 'docs/inference.md').read_text(), re.DOTALL)
    cfg = load_config(CAMVID)
    init_default_scope(cfg.default_scope)
    (folder / 'work_dirs/camvid').mkdir(parents=True)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / 'work_dirs/camvid/iter_1500.pth')
    draw(folder / 'street.jpg')
    exec(at_once, found := {})
    assert found['labels'].shape == cv2.imread(str(folder / 'street.jpg')).shape[:2]
    exec(code, {})
    before, after = (cv2.imread(str(folder / name)) for name in ('street.jpg', 'street_predicted.png'))
    assert after.shape == before.shape and (after != before).any()


def write_coco(root):
    """Draws pictures in COCO's layout, with its 80 categories."""
    init_default_scope('mmdet')
    names = dataset_class(dict(type='CocoDataset')).METAINFO['classes']
    (root / 'annotations').mkdir(parents=True)
    for split in ('train2017', 'val2017'):
        for i in range(2):
            draw(root / split / f'{i}.jpg')
        images = [dict(id=i, file_name=f'{i}.jpg', width=96, height=72) for i in range(2)]
        boxes = [dict(id=i, image_id=i, category_id=90, bbox=[20, 10, 40, 40], area=1600, iscrowd=0) for i in range(2)]
        (root / f'annotations/instances_{split}.json').write_text(json.dumps(dict(
            images=images, annotations=boxes,
            categories=[dict(id=i, name=name) for i, name in zip(COCO_IDS, names, strict=True)])))


@pytest.mark.parametrize('kind', ['pspnet', 'retinanet'])
def test_a_recipe_for_a_shipped_config_trains_and_predicts(kind, folder, monkeypatch, capfd):
    """By the tools: its base is found on either stack, data are moved by one key, evaluation is merged."""
    Path('mine.py').write_text(RECIPES[kind].replace("arch='31B'", f'arch={SHALLOW}'))
    short = ['data_root=my data', 'train_dataloader.batch_size=2', *(
        f'{split}_dataloader.{option}' for split in ('train', 'val', 'test')
        for option in ('num_workers=0', 'persistent_workers=False'))]
    if kind == 'pspnet':
        make_mini_ade20k(folder / 'my data', num_train=2, num_val=1, size=64)
        short += ['train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'default_hooks.checkpoint.interval=2',
                  'train_dataloader.dataset.pipeline.2.scale=(64,64)', 'model.data_preprocessor.size=(64,64)',
                  'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
                  'test_dataloader.dataset.pipeline.1.scale=(64,64)',
                  'val_dataloader.dataset.pipeline.1.scale=(64,64)']
        pictures, checkpoint = 'my data/images/validation', 'iter_2.pth'
    else:
        write_coco(folder / 'my data')
        short += ['train_cfg.max_epochs=1', 'train_dataloader.dataset.pipeline.2.scale=(96,96)',
                  'model.test_cfg.score_thr=0.0', 'test_dataloader.dataset.pipeline.1.scale=(96,96)',
                  'val_dataloader.dataset.pipeline.1.scale=(96,96)']
        pictures, checkpoint = 'my data/val2017', 'epoch_1.pth'
    assert run('tools/train.py mine.py --work-dir out', monkeypatch, *short) == 0, capfd.readouterr().err
    assert 'evaluating with 4 large-kernel layers merged' in capfd.readouterr().out
    Path('pictures').symlink_to(folder / pictures)
    command = f'tools/predict.py pictures --model mine.py --checkpoint out/{checkpoint} --out found'
    assert run(command, monkeypatch, *short) == 0
    assert list(Path('found/overlays').iterdir())
    for path in Path('found/raw').glob('*.json'):
        found = json.loads(path.read_text())
        assert [category['id'] for category in found['categories']] == list(COCO_IDS)
        assert found['annotations'] and {one['category_id'] for one in found['annotations']} <= {*COCO_IDS}
