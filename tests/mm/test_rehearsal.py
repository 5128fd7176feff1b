"""A rehearsal finds what would fail at the first validation, and leaves no trace in the run."""

import os
import random
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmreplk import InputError
from mmreplk.mm.config import load_config
from mmreplk.mm.data import make_mini_ade20k, make_mini_coco
from mmreplk.mm.processes import join_processes
from mmreplk.mm.rehearsal import ExtremeSampler, rehearse
from mmreplk.mm.runner import build_runner, close_runner
from mmreplk.weights import read_checkpoint
from tests.conftest import assert_same_bits
from tests.processes import in_two_processes

ROOT = Path(__file__).parents[2]
ARCH = dict(large_kernel_sizes=[7, 5, 5, 3], layers=[1, 1, 1, 1], channels=[4, 8, 8, 8], small_kernel=None)


@pytest.fixture(scope='module')
def ade(tmp_path_factory):
    return make_mini_ade20k(tmp_path_factory.mktemp('data') / 'ade', num_train=4, num_val=3, size=64)


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    return make_mini_coco(tmp_path_factory.mktemp('data') / 'coco', num_train=4, num_val=3, size=64)


def short_config(name, root, work_dir, **options):
    """A small config with a network that is smaller still, two iterations long."""
    cfg = load_config(str(ROOT / f'configs/{name}.py'), work_dir=str(work_dir))
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = f'{root}/'
    cfg.train_dataloader.update(batch_size=2)
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.logger.interval = 1
    cfg.model.backbone.arch = ARCH
    if head := cfg.model.get('decode_head'):
        head.update(in_channels=list(ARCH['channels']), channels=8)
    else:
        cfg.model.neck.in_channels = list(ARCH['channels'])
        for proposals in (cfg.model.train_cfg.rpn_proposal, cfg.model.test_cfg.rpn):
            proposals.update(nms_pre=20, max_per_img=20)
        for stage in cfg.model.train_cfg.rcnn:
            stage.sampler.num = 8
    cfg.merge_from_dict(options)
    return cfg


@pytest.fixture
def segmentor(ade, tmp_path):
    pytest.importorskip('mmseg')
    return short_config('upernet_replknet_tiny_miniade20k', ade, tmp_path / 'run')


@pytest.fixture
def detector(coco, tmp_path):
    pytest.importorskip('mmdet')
    cfg = short_config('cascade_mask_rcnn_replknet_tiny_minicoco', coco, tmp_path / 'run')
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = f'{coco}/annotations/instances_val.json'
    return cfg


def train(cfg):
    """Trains; returns the weights of the last checkpoint, what the log says without times, and the files' names."""
    runner = build_runner(cfg)
    runner.train()
    close_runner(runner)
    folder = Path(cfg.work_dir)
    log = re.sub(r'\d+[-/]\d+.*? - |(time|memory|peak_rss|data_time|eta): \S+|\d{8}_\d{6}', '',
                 next(folder.glob('*/*.log')).read_text()).replace(str(folder), '')
    files = sorted(re.sub(r'\d{8}_\d{6}', '', str(path.relative_to(folder))) for path in folder.rglob('*'))
    weights = read_checkpoint(folder / 'iter_2.pth')
    return weights, log.split('Config:')[1], files


@pytest.mark.parametrize('hooks', ['all', 'without ExactResumeHook'])
def test_a_run_is_the_same_to_the_bit_with_and_without_it(segmentor, tmp_path, hooks):
    if hooks != 'all':
        segmentor.custom_hooks = [hook for hook in segmentor.custom_hooks if hook.type != 'ExactResumeHook']
    runs = []
    for name in ('with', 'without'):
        random.seed(5), np.random.seed(5), torch.manual_seed(5)
        segmentor.work_dir = str(tmp_path / name)
        if name == 'with':
            rehearse(segmentor)
            assert not Path(segmentor.work_dir).exists()
        runs.append(train(segmentor))
    (saved, log, files), (expected, expected_log, expected_files) = runs
    assert files == expected_files and log == expected_log
    assert_same_bits(saved['state_dict'], expected['state_dict'])
    assert saved['message_hub']['log_scalars'].keys() == expected['message_hub']['log_scalars'].keys()


def test_it_says_how_long_it_took_and_nothing_else(segmentor, capfd, monkeypatch):
    said = []
    monkeypatch.setattr('mmreplk.mm.rehearsal.print_log', lambda message, **_: said.append(message))
    rehearse(segmentor)
    assert len(said) == 1 and re.fullmatch(r'Rehearsed on 2 samples: .*, saving, in [\d.]+ s\.', said[0])
    assert ''.join(capfd.readouterr()) == ''


@pytest.mark.parametrize(('crop', 'options', 'is_told'), [
    (32, {}, True),
    (33, {}, False),  # evaluated on fewer than four times as many pixels
    (32, dict(mode='slide', crop_size=(32, 32), stride=(32, 32)), False),
])
def test_kernels_wider_than_the_maps_of_training(segmentor, monkeypatch, crop, options, is_told):
    pipeline = segmentor.train_dataloader.dataset.pipeline
    next(step for step in pipeline if step.type == 'RandomCrop').crop_size = (crop, crop)
    segmentor.model.data_preprocessor.size = (crop, crop)
    segmentor.model.test_cfg.update(options)
    said = []
    monkeypatch.setattr('mmreplk.mm.rehearsal.print_log', lambda message, **_: said.append(message))
    rehearse(segmentor)
    assert said[:-1] == is_told * [
        'training images of 32x32 make maps that are smaller than their kernels (5x5 on 4x4, 5x5 on 2x2, 3x3 on 1x1), '
        'and evaluation has images of 64x64. Such kernels see a border everywhere, and can be wrong far from one: '
        'train on crops of at least 96x96, if only at the end (docs/nuclei.md)']


def test_it_can_be_switched_off(segmentor):
    segmentor.val_dataloader.dataset.data_root = '/nowhere'
    with pytest.raises(InputError, match='found by the rehearsal before training'):
        rehearse(segmentor)
    segmentor.rehearsal = False
    rehearse(segmentor)


@pytest.mark.parametrize(('options', 'words'), [
    ({'default_hooks.checkpoint.save_best': 'coco/bbox_mAP'}, 'coco/bbox_mAP'),
    ({'model.test_cfg': dict(mode='slide', crop_size=(64, 64))}, 'stride'),
    ({'custom_hooks': [dict(type='EarlyStoppingHook', monitor='accuracy', strict=True)]}, 'accuracy'),
    ({'val_evaluator.iou_metrics': ['mAP']}, 'mAP'),
    ({'val_dataloader.dataset.pipeline': [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]}, 'gt_sem_seg'),
])
def test_what_only_a_validation_would_find(segmentor, options, words):
    segmentor.merge_from_dict(options)
    work_dir = Path(segmentor.work_dir)
    with pytest.raises(InputError, match=f'{words}(.|\n)*found by the rehearsal') as caught:
        rehearse(segmentor)
    assert {path.name for path in work_dir.rglob('*')} <= {'rehearsal_error.txt'}
    if 'traceback is in' in str(caught.value):
        assert 'Traceback' in (work_dir / 'rehearsal_error.txt').read_text()


@pytest.mark.parametrize('error', [MemoryError(), RuntimeError('CUDA error: out of memory')], ids=repr)
def test_what_the_machine_lacks_is_not_the_configs(segmentor, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr('mmseg.models.EncoderDecoder.predict', fail)
    with pytest.raises(type(error)) as caught:
        rehearse(segmentor)
    assert caught.value is error and not Path(segmentor.work_dir).exists()


def rehearsed_in_a_process(cfg, is_trained=True):
    """Rehearses and trains in one of two processes; returns what lies in the work dir in between, and the weights."""
    cfg.launcher = 'pytorch'
    join_processes(cfg)
    os.environ.pop('RANK')  # which other launchers do not set
    rehearse(cfg)
    torch.distributed.barrier()  # the other may still be cleaning up
    left = [path.name for path in Path(cfg.work_dir).rglob('*')]
    if not is_trained:
        return left, None
    runner = build_runner(cfg)
    runner.train()
    weights = {name: tensor.numpy() for name, tensor in runner.model.module.state_dict().items()}
    close_runner(runner)
    return left, weights


def test_in_two_processes(segmentor, tmp_path):
    runs = []
    for is_rehearsed in (True, False):
        segmentor.rehearsal, segmentor.work_dir = is_rehearsed, str(tmp_path / f'run{is_rehearsed}')
        segmentor.randomness = dict(seed=5)
        runs.append(in_two_processes(rehearsed_in_a_process, segmentor))
    for one, other in zip(*runs, strict=True):
        assert not isinstance(one, Exception), one
        assert one[0] == [] and one[1].keys() == other[1].keys()
        assert all(np.array_equal(one[1][name], other[1][name]) for name in one[1])
    files = [sorted(re.sub(r'\d{8}_\d{6}', '', path.name) for path in (tmp_path / f'run{is_rehearsed}').rglob('*'))
             for is_rehearsed in (True, False)]
    assert files[0] == files[1] and 'iter_2.pth' in files[0]


@pytest.mark.parametrize(('options', 'words'), [
    ({'default_hooks.checkpoint.save_best': 'coco/bbox_mAP'}, 'coco/bbox_mAP'),
    # A stage whose features no head takes: its gradients are waited for in the second iteration.
    ({'model.decode_head.in_index': [0, 1, 2], 'model.decode_head.in_channels': [4, 8, 8]}, 'reduction in the prior'),
])
def test_what_only_several_processes_or_a_validation_would_find(segmentor, options, words):
    segmentor.merge_from_dict(options)
    for error in in_two_processes(rehearsed_in_a_process, segmentor, False):
        assert isinstance(error, InputError) and words in str(error) and 'found by the rehearsal' in str(error), error
    assert {path.name for path in Path(segmentor.work_dir).rglob('*')} <= {'rehearsal_error.txt'}


def test_images_of_several_sizes_in_a_batch_of_validation(segmentor, ade, tmp_path):
    root = tmp_path / 'sizes'
    make_mini_ade20k(root, num_train=2, num_val=4, size=64)
    for kind, suffix in (('images', 'jpg'), ('annotations', 'png')):
        path = next((root / kind / 'validation').glob(f'*3.{suffix}'))
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path), -1), (96, 64), interpolation=cv2.INTER_NEAREST))
    segmentor.val_dataloader.dataset.data_root = str(root)
    rehearse(segmentor)
    segmentor.val_dataloader.batch_size = 2
    with pytest.raises(InputError, match='size'):
        rehearse(segmentor)


@pytest.mark.parametrize(('change', 'words'), [
    (lambda cfg: cfg.val_evaluator.update(metric=['bbox', 'proposals']), 'proposals'),
    (lambda cfg: cfg.model.roi_head.update(mask_head=None, mask_roi_extractor=None), 'segm'),
])
def test_what_only_the_evaluation_of_detectors_would_find(detector, change, words):
    rehearse(detector)
    change(detector)
    with pytest.raises(InputError, match=f'{words}(.|\n)*found by the rehearsal'):
        rehearse(detector)


def test_it_writes_nowhere_else(detector, tmp_path):
    detector.val_evaluator.outfile_prefix = str(tmp_path / 'results')
    detector.default_hooks.checkpoint.out_dir = str(tmp_path / 'elsewhere')
    rehearse(detector)
    assert not list(tmp_path.glob('results*')) and not (tmp_path / 'elsewhere').exists()


def test_by_epochs(segmentor):
    segmentor.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
    segmentor.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    segmentor.default_hooks.checkpoint.update(by_epoch=True, interval=1)
    segmentor.log_processor.by_epoch = True
    segmentor.param_scheduler = [dict(type='PolyLR', by_epoch=True, end=2)]
    rehearse(segmentor)


def test_a_last_batch_of_one_image(segmentor, ade):
    """Four pictures in batches of three; the head pools to one pixel, where BatchNorm needs two images."""
    segmentor.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
    segmentor.train_dataloader.update(batch_size=3)
    segmentor.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    segmentor.default_hooks.checkpoint.update(by_epoch=True, interval=1)
    segmentor.param_scheduler = [dict(type='PolyLR', by_epoch=True, end=2)]
    with pytest.raises(InputError, match='more than 1 value per channel'):
        rehearse(segmentor)
    segmentor.train_dataloader.drop_last = True
    rehearse(segmentor)


def test_the_smallest_and_the_largest(tmp_path):

    class Sizes:

        def __len__(self):
            return 200

        def get_data_info(self, index):
            return dict(width=10 + (index == 199), height=10 - (index == 0))

    assert list(ExtremeSampler(Sizes(), repeats=2)) == [0, 199, 0, 199]
    assert list(ExtremeSampler([1])) == [0, 0]
    with pytest.raises(InputError, match='has no sample'):
        ExtremeSampler([])
