"""Pure-Python configs, whose types are classes, are treated as text configs are."""


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
from tests.mm.config.pure import write_pure


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
              for checkpoint in (tmp_path / 'run/iter_2.pth', merged)]
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
