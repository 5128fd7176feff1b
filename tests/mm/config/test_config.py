import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmreplk.mm.config import load_config, prepare_testing, prepare_training

ROOT = Path(__file__).parents[3]
CAMVID = str(ROOT / 'configs/upernet_replknet_tiny_camvid.py')


def test_what_the_command_line_says(tmp_path):
    cfg = load_config(CAMVID, {'train_dataloader.batch_size': 3, 'model.backbone.init_cfg': None})
    assert cfg.train_dataloader.batch_size == 3 and cfg.work_dir == './work_dirs/upernet_replknet_tiny_camvid'
    assert load_config(CAMVID, work_dir=str(tmp_path)).work_dir == str(tmp_path)


def test_a_misspelt_name_is_no_new_one():
    with pytest.raises(ValueError, match="it has no 'trian_dataloader'; did you mean 'train_dataloader'"):
        load_config(CAMVID, {'trian_dataloader.batch_size': 3})
    assert load_config(CAMVID, {'randomness.seed': 3, 'own_value': 5}).own_value == 5


@pytest.mark.parametrize(('launcher', 'gpu', 'expected'), [
    ('none', False, 'BN'), ('none', True, 'BN'), ('pytorch', False, 'BN'), ('pytorch', True, 'SyncBN'),
])
def test_sync_bn_needs_several_processes_with_gpus(monkeypatch, capfd, launcher, gpu, expected):
    MMLogger.get_current_instance()  # which looks for the GPU itself
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    cfg = load_config(str(ROOT / 'configs/upernet_replknet31b_ade20k.py'), launcher=launcher)
    assert {cfg.model[part].norm_cfg.type for part in ('backbone', 'decode_head', 'auxiliary_head')} == {expected}


@pytest.mark.parametrize(('gpu', 'wrapper'), [(True, 'AmpOptimWrapper'), (False, 'CPUAmpOptimWrapper')])
def test_mixed_precision_of_a_config_needs_no_gpu(monkeypatch, gpu, wrapper):
    MMLogger.get_current_instance()  # which looks for the GPU itself
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    cfg = load_config(CAMVID, {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.dtype': 'bfloat16'})
    assert cfg.optim_wrapper.type == wrapper and cfg.optim_wrapper.dtype == 'bfloat16'


@pytest.mark.parametrize(('gpu', 'wrapper'), [(True, 'AmpOptimWrapper'), (False, 'CPUAmpOptimWrapper')])
def test_training_options(monkeypatch, tmp_path, gpu, wrapper):
    MMLogger.get_current_instance()  # which looks for the GPU itself
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    cfg = load_config(CAMVID, work_dir=str(tmp_path))
    torch.save(dict(), tmp_path / 'iter_1.pth')
    prepare_training(cfg, amp=True, auto_scale_lr=True, resume='auto')
    assert cfg.optim_wrapper.type == wrapper and cfg.optim_wrapper.loss_scale == 'dynamic'
    assert cfg.auto_scale_lr.enable and cfg.resume and cfg.load_from == str(tmp_path / 'iter_1.pth')
    prepare_training(cfg, resume='a.pth')
    assert cfg.load_from == 'a.pth'


@pytest.mark.parametrize('saved', [False, True])
def test_with_nothing_to_resume_from_training_begins_with_the_weights_of_the_config(tmp_path, saved):
    """As fine-tuning does that a scheduler starts again and again with one command."""
    cfg = load_config(CAMVID, {'load_from': 'weights.pth'}, work_dir=str(tmp_path))
    if saved:
        torch.save(dict(), tmp_path / 'iter_1.pth')
    prepare_training(cfg, resume='auto')
    assert (cfg.resume, cfg.load_from) == ((True, str(tmp_path / 'iter_1.pth')) if saved else (False, 'weights.pth'))


def test_testing_options_of_a_segmentor():
    cfg = load_config(CAMVID)
    prepare_testing(cfg, 'x.pth', show_dir='pictures', tta=True, out='maps')
    assert cfg.visualizer.save_dir == 'pictures' and cfg.default_hooks.visualization.draw
    assert cfg.model.type == 'SegTTAModel' and cfg.model.module.type == 'EncoderDecoder'
    assert cfg.test_dataloader.dataset.pipeline[1].type == 'TestTimeAug'
    assert cfg.test_evaluator.output_dir == 'maps' and cfg.load_from == 'x.pth'


@pytest.mark.parametrize('hooks', [[], [dict(type='ReparamHook', check=True)]])
def test_a_test_in_bfloat16_is_one_of_the_hook_that_merges(hooks):
    cfg = Config(dict(custom_hooks=hooks))
    prepare_testing(cfg, 'x.pth', dtype='bfloat16')
    found = [hook for hook in cfg.custom_hooks if hook['type'] == 'ReparamHook']
    assert found == [dict(type='ReparamHook', dtype='bfloat16', **({'check': True} if hooks else {}))]
    prepare_testing(plain := Config(dict(custom_hooks=[])), 'x.pth')
    assert [hook['type'] for hook in plain.custom_hooks] == ['StrictLoadHook']


def test_testing_options_of_a_detector():
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]
    cfg = Config(
        dict(
            default_scope='mmdet',
            model=dict(type='RetinaNet'),
            test_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(pipeline=pipeline))),
            test_evaluator=dict(type='CocoMetric'),
            default_hooks=dict(visualization=dict(type='DetVisualizationHook'))))
    prepare_testing(cfg, 'x.pth', show_dir='pictures', tta=True, out='boxes.pkl')
    assert cfg.default_hooks.visualization.test_out_dir == os.path.abspath('pictures')
    assert cfg.model.type == 'DetTTAModel' and cfg.model.module.type == 'RetinaNet'
    assert [t.type for t in cfg.test_dataloader.dataset.dataset.pipeline] == ['LoadImageFromFile', 'TestTimeAug']
    assert cfg.test_evaluator[1] == dict(type='DumpDetResults', out_file_path='boxes.pkl')


@pytest.mark.parametrize(('call', 'words'), [
    (lambda: load_config('configs/none.py'), "config 'configs/none.py' does not exist"),
    (lambda: load_config(__file__.replace('.py', '.pyc.py')), 'does not exist'),
    (lambda: load_config(CAMVID, {'train_dataloader.dataset.pipeline.99.type': 1}), '--cfg-options do not fit'),
    (lambda: prepare_training(Config(dict(optim_wrapper=dict(type='Apex'))), amp=True), "has 'Apex'"),
    (lambda: prepare_training(Config(dict()), auto_scale_lr=True), '--auto-scale-lr needs auto_scale_lr'),
    (lambda: prepare_testing(Config(dict()), 'x.pth', show_dir='x'), '--show and --show-dir need'),
    (lambda: prepare_testing(Config(dict(test_dataloader=dict(dataset={}))), 'x.pth', tta=True), '--tta needs'),
    (lambda: prepare_testing(Config(dict(default_scope='mmdet', test_evaluator=dict(type='VOCMetric'))), 'x.pth',
                             out='maps'), "--out 'maps': only CocoMetric writes a folder"),
])
def test_what_does_not_fit_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_broken_config_is_one_sentence(tmp_path):
    (tmp_path / 'broken.py').write_text('model = dict(')
    with pytest.raises(ValueError, match=r'broken.py. cannot be read: \w+Error'):
        load_config(str(tmp_path / 'broken.py'))
