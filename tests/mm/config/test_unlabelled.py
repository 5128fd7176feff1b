"""Test splits without labels: predictions are written to be submitted."""

import json
import shutil

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmreplk import InputError
from mmreplk.mm.checks import check_before_testing
from mmreplk.mm.config import prepare_testing
from mmreplk.mm.data import make_mini_ade20k, make_mini_coco
from mmreplk.mm.runner import build_runner, close_runner
from tests.mm.inference.conftest import DETECTION, SMALL, small_config

SEGMENTATION = 'configs/upernet_replknet_tiny_miniade20k.py'


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setitem(SMALL, SEGMENTATION, SMALL['configs/upernet_replknet_tiny_camvid.py'])


def prepared(cfg, tmp_path, **options):
    """Gives a config a checkpoint of random weights, and makes it test that."""
    init_default_scope(cfg.default_scope)
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'x.pth')
    cfg.work_dir = str(tmp_path / 'run')
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    prepare_testing(cfg, str(tmp_path / 'x.pth'), **options)
    check_before_testing(cfg)
    return cfg


def run_test(cfg):
    runner = build_runner(cfg)
    metrics = runner.test()
    close_runner(runner)
    return metrics


@pytest.mark.parametrize('tta', [False, True])
def test_a_segmentation_split_without_label_maps(tmp_path, tta):
    pytest.importorskip('mmseg')
    root = make_mini_ade20k(tmp_path / 'ade', num_train=1, num_val=2, size=64)
    shutil.rmtree(root / 'annotations')
    options = {'test_dataloader.dataset': dict(data_root=str(root), data_prefix=dict(
        _delete_=True, img_path='images/validation'))}
    with pytest.raises(InputError, match='no label maps .*test_evaluator.format_only=True test_evaluator.output_dir='):
        prepared(small_config(SEGMENTATION, **options), tmp_path)
    cfg = prepared(small_config(SEGMENTATION, **options, **{'test_evaluator.format_only': True}), tmp_path,
                   out=str(tmp_path / 'maps'), tta=tta)
    assert run_test(cfg) == {}
    maps = [np.asarray(Image.open(path)) for path in sorted((tmp_path / 'maps').glob('*.png'))]
    assert len(maps) == 2 and all(labels.shape == (64, 64) and labels.min() >= 1 for labels in maps)


def test_a_coco_file_without_annotations(tmp_path):
    pytest.importorskip('mmdet')
    root = make_mini_coco(tmp_path / 'coco', num_train=1, num_val=2, size=64)
    path = root / 'annotations/image_info_test-dev.json'
    labels = json.loads((root / 'annotations/instances_val.json').read_text())
    del labels['annotations']
    path.write_text(json.dumps(labels))
    options = {'test_dataloader.dataset.data_root': f'{root}/', 'test_evaluator.ann_file': str(path),
               'test_dataloader.dataset.ann_file': 'annotations/image_info_test-dev.json'}
    with pytest.raises(InputError, match='test-dev.json has no annotations to evaluate with: .*format_only=True'):
        prepared(small_config(DETECTION, **options), tmp_path)
    options |= {'test_evaluator.format_only': True, 'test_evaluator.outfile_prefix': str(tmp_path / 'results')}
    assert run_test(prepared(small_config(DETECTION, **options), tmp_path)) == {}
    found = json.loads((tmp_path / 'results.bbox.json').read_text())
    assert {box['image_id'] for box in found} <= {1, 2} and (tmp_path / 'results.segm.json').is_file()
