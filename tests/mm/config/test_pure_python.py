"""Pure-Python configs, whose types are classes, are treated as text configs are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmreplk import InputError
from mmreplk.mm.building import build_empty_model
from mmreplk.mm.checks import check_before_testing, check_before_training
from mmreplk.mm.config import load_config, prepare_testing, prepare_training
from mmreplk.mm.data import make_mini_ade20k, make_mini_coco
from mmreplk.mm.inference import Predictor
from mmreplk.mm.kinds import kind_of
from mmreplk.mm.rehearsal import rehearse
from mmreplk.mm.runner import build_runner, close_runner
from mmreplk.weights import read_checkpoint
from mmreplk.weights.conversion import reparameterize_checkpoint

ROOT = Path(__file__).parents[3]
MODULES = {  # where what the text configs name is to be had
    'mmseg': ('mmseg.models', 'mmseg.datasets', 'mmseg.datasets.transforms', 'mmseg.evaluation', 'mmseg.engine',
              'mmseg.visualization'),
    'mmdet': ('mmdet.models', 'mmdet.datasets', 'mmdet.datasets.transforms', 'mmdet.evaluation', 'mmdet.engine',
              'mmdet.models.task_modules', 'mmdet.visualization'),
    '': ('mmreplk.mm', 'mmengine.runner', 'mmengine.hooks', 'mmengine.optim', 'mmengine.dataset',
         'mmengine.visualization', 'mmcv.transforms', 'torch.optim', 'mmcv.ops'),
}  # yapf: disable


def as_classes(node, scope, found):
    """Returns the text of a node with its types as classes, as far as the modules above have them."""
    if isinstance(node, dict):
        kind = node.get('type')
        for module in (*MODULES[scope], *MODULES['']) if isinstance(kind, str) else ():
            if isinstance(getattr(__import__(module, fromlist=['x']), kind, None), type):
                found.add((module, kind))
                kind = f'@{kind}@'
                break
        return dict({key: as_classes(value, scope, found) for key, value in node.items()}, **(
            dict(type=kind) if 'type' in node else {}))  # yapf: disable
    if isinstance(node, (list, tuple)):
        return type(node)(as_classes(value, scope, found) for value in node)
    return node


def write_pure(name, root, folder, **options):
    """Writes one of our configs in pure Python into ``folder``, a base and a leaf that reads it; returns the leaf."""
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    scope = cfg.default_scope
    pytest.importorskip(scope)
    cfg.merge_from_dict({f'{split}_dataloader.dataset.data_root': f'{root}/' for split in ('train', 'val', 'test')})
    cfg.merge_from_dict({'train_dataloader.batch_size': 2, 'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2,
                         'default_hooks.checkpoint.interval': 2, 'train_dataloader.num_workers': 0,
                         'train_dataloader.persistent_workers': False, **options})  # yapf: disable
    found: set = set()
    parts = {key: as_classes(value, scope, found) for key, value in cfg.to_dict().items()
             if key not in ('custom_imports', 'default_scope')}  # yapf: disable
    text = '\n'.join(f'from {module} import {kind}' for module, kind in sorted(found))
    text += '\n' + '\n'.join(f'{key} = {value!r}' for key, value in parts.items())
    for _, kind in found:
        text = text.replace(f"'@{kind}@'", kind)
    (folder / 'pure_base.py').write_text(text)
    leaf = folder / 'pure_leaf.py'
    leaf.write_text('from mmengine.config import read_base\n\nwith read_base():\n    from .pure_base import *\n\n'
                    'log_level = "INFO"\n')  # yapf: disable
    return leaf


@pytest.fixture
def segmentor(tmp_path):
    root = make_mini_ade20k(tmp_path / 'ade', num_train=4, num_val=2, size=64)
    return write_pure('upernet_replknet_tiny_miniade20k', root, tmp_path)


@pytest.fixture
def detector(tmp_path):
    root = make_mini_coco(tmp_path / 'coco', num_train=4, num_val=2, size=64)
    evaluators = {f'{name}_evaluator.ann_file': f'{root}/annotations/instances_val.json' for name in ('val', 'test')}
    return write_pure('cascade_mask_rcnn_replknet_tiny_minicoco', root, tmp_path, **evaluators)


def test_the_types_are_classes(segmentor):
    cfg = Config.fromfile(segmentor)
    assert isinstance(cfg.model.type, type) and isinstance(cfg.model.backbone.type, type)
    assert cfg.get('default_scope') is None
    assert kind_of(cfg.model) == 'EncoderDecoder' == kind_of(dict(type='mmseg.EncoderDecoder'))
    assert kind_of(dict()) == kind_of(None) == ''


def test_training_testing_and_predicting(segmentor, tmp_path):
    cfg = load_config(str(segmentor), work_dir=str(tmp_path / 'run'))
    assert cfg.default_scope == 'mmseg' and cfg.model.backbone.norm_cfg.type == 'BN'
    prepare_training(cfg, amp=True)
    assert cfg.optim_wrapper.type in ('CPUAmpOptimWrapper', 'AmpOptimWrapper')
    check_before_training(cfg)
    rehearse(cfg)
    runner = build_runner(cfg)
    runner.train()
    close_runner(runner)
    saved = read_checkpoint(tmp_path / 'run/iter_2.pth')
    merged = tmp_path / 'merged.pth'
    torch.save(reparameterize_checkpoint(saved), merged)
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    labels = [Predictor(load_config(str(segmentor)), checkpoint)([picture])[0].labels
              for checkpoint in (tmp_path / 'run/iter_2.pth', merged)]  # yapf: disable
    assert (labels[0] == labels[1]).mean() > .99
    cfg = load_config(str(segmentor), work_dir=str(tmp_path / 'test'))
    prepare_testing(cfg, str(tmp_path / 'run/iter_2.pth'), tta=True)
    assert [kind_of(hook) for hook in cfg.custom_hooks].count('StrictLoadHook') == 1
    check_before_testing(cfg)
    runner = build_runner(cfg)
    assert 0 <= runner.test()['mIoU'] <= 100
    close_runner(runner)


@pytest.mark.parametrize(('options', 'words'), [
    ({'model.decode_head.in_channels': [1, 2, 3, 4]}, 'decode_head.in_channels must be'),
    ({'model.backbone.depth': 5}, "RepLKNet has no argument 'depth'"),
    ({'model.backbone.init_cfg': dict(type='Pretrained', checkpoint='none.pth')}, "'none.pth' does not exist"),
])
def test_the_checks_of_a_segmentor(segmentor, options, words):
    with pytest.raises(InputError, match=words):
        check_before_training(load_config(str(segmentor), options))


def test_a_detector_with_several_views_without_masks(detector):
    cfg = load_config(str(detector))
    assert cfg.default_scope == 'mmdet'
    build_empty_model(cfg)
    prepare_testing(cfg, 'x.pth', tta=True, out='boxes.pkl')
    assert kind_of(cfg.model) == 'DetTTAModel' and cfg.model.module.roi_head.mask_head is None
    assert cfg.test_evaluator[0].metric == 'bbox' and kind_of(cfg.test_evaluator[1]) == 'DumpDetResults'


def test_the_annotations_of_a_detector_are_read(detector, tmp_path):
    check_before_training(load_config(str(detector)))
    path = tmp_path / 'coco/annotations/instances_train.json'
    path.write_text('{}')
    with pytest.raises(InputError, match="instances_train.json is not of COCO's format"):
        check_before_training(load_config(str(detector)))
