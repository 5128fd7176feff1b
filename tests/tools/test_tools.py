"""The command lines, run as a user runs them."""

import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from mmreplk.weights import read_checkpoint
from tests.tools.conftest import REAL, TINY, free_port, miou
from tests.tools.processes import ROOT, tool


def test_training_evaluates_merged_and_saves_in_training_form(trained):
    log = next(trained.glob('*/*.log')).read_text()
    assert 'ReparamHook: evaluating with 6 large-kernel layers merged and ' in log
    assert log.count('aAcc: ') == 2
    assert {p.name for p in trained.glob('*.pth')} >= {'iter_2.pth', 'iter_4.pth'} and not list(trained.glob('*.part'))
    state = read_checkpoint(trained / 'iter_4.pth')['state_dict']
    assert any('lkb_origin' in k for k in state) and not any('lkb_reparam' in k for k in state)


def test_testing_gives_the_metric_of_training_and_pictures(trained, data_options, tmp_path):
    result = tool('test.py', TINY, trained / 'iter_4.pth', '--work-dir', tmp_path, '--out', tmp_path / 'maps',
                  '--show-dir', tmp_path / 'pictures', '--cfg-options', *data_options)
    assert result.returncode == 0, result.stderr
    log = next(trained.glob('*/*.log')).read_text()
    assert miou(result.stdout) == miou(log)
    assert len(list((tmp_path / 'maps').glob('*.png'))) == 2
    assert len(list((tmp_path / 'pictures').rglob('*.png'))) == 2
    sheet = tmp_path / 'sheet.png'
    result = tool('analysis_tools/contact_sheet.py', TINY, tmp_path / 'maps', sheet, '--cfg-options', *data_options)
    assert result.returncode == 0 and sheet.stat().st_size > 1000, result.stderr


def test_test_time_augmentation(trained, data_options, tmp_path):
    result = tool('test.py', TINY, trained / 'iter_4.pth', '--work-dir', tmp_path, '--tta', '--cfg-options',
                  *data_options)
    assert result.returncode == 0 and 0 <= miou(result.stdout) <= 100, result.stderr


def test_resuming_goes_on_from_the_checkpoint(trained, short_options, tmp_path):
    for name in ('iter_2.pth', 'upernet_replknet_tiny_miniade20k.py'):
        shutil.copy(trained / name, tmp_path)
    result = tool('train.py', TINY, '--work-dir', tmp_path, '--resume', tmp_path / 'iter_2.pth', '--cfg-options',
                  *short_options)
    assert result.returncode == 0 and 'resumed epoch: 0, iter: 2' in result.stdout, result.stderr
    assert (tmp_path / 'last_checkpoint').read_text().endswith('iter_4.pth')


def test_the_real_config_trains_evaluates_and_saves(data_options, tmp_path):
    # Small pictures, no gigabyte of the optimizer's state in each checkpoint, and no rehearsal of the same.
    result = tool(
        'train.py', REAL, '--work-dir', tmp_path, '--no-rehearsal', '--cfg-options', *data_options,
        'model.backbone.init_cfg=None', 'val_dataloader.dataset.pipeline.1.scale=(128,64)',
        'default_hooks.checkpoint.save_optimizer=False', 'train_dataloader.dataset.pipeline.3.crop_size=(64,64)',
        'model.data_preprocessor.size=(64,64)', 'train_dataloader.batch_size=2', 'train_cfg.max_iters=1',
        'train_cfg.val_interval=1', 'default_hooks.logger.interval=1')
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
    assert 'evaluating with 24 large-kernel layers merged' in result.stdout and 0 <= miou(result.stdout) <= 100
    assert (tmp_path / 'iter_1.pth').stat().st_size > 4e8
    shutil.rmtree(tmp_path)


def test_two_processes(trained, short_options, data_options, tmp_path):
    result = tool('dist_train.sh', TINY, 2, '--work-dir', tmp_path, '--no-rehearsal', '--cfg-options',
                     *short_options, PORT=free_port(), OMP_NUM_THREADS='1')
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert result.stdout.count('evaluating with 6 large-kernel layers merged') == 1, 'said by the first process alone'
    result = tool('dist_test.sh', TINY, tmp_path / 'iter_4.pth', 2, '--work-dir', tmp_path, '--cfg-options',
                  *data_options, PORT=free_port(), OMP_NUM_THREADS='1')
    assert result.returncode == 0, result.stderr[-2000:]
    alone = tool('test.py', TINY, tmp_path / 'iter_4.pth', '--work-dir', tmp_path, '--cfg-options', *data_options)
    assert miou(result.stdout) == miou(alone.stdout)


def test_ctrl_c_leaves_the_last_checkpoint_whole(short_options, tmp_path):
    options = [o for o in short_options if 'max_iters' not in o] + ['train_cfg.max_iters=1000']
    process = subprocess.Popen(
        [sys.executable, 'tools/train.py', TINY, '--work-dir', str(tmp_path), '--cfg-options', *options],
        cwd=ROOT,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Where the tests run in the background of a shell, children are born deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        deadline = time.time() + 300
        while not (tmp_path / 'last_checkpoint').is_file():
            assert time.time() < deadline and process.poll() is None
            time.sleep(.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130 and 'is whole: go on from it with --resume' in errors, errors
    last = (tmp_path / 'last_checkpoint').read_text()
    assert read_checkpoint(last)['meta']['iter'] >= 2


@pytest.mark.parametrize(('arguments', 'words'), [
    ((REAL, ), "annotations/training' does not exist|images/training' does not exist"),
    (('configs/none.py', ), "config 'configs/none.py' does not exist"),
    ((TINY, '--resume', 'none.pth', '--cfg-options', '{data}'), "checkpoint 'none.pth' does not exist"),
    ((TINY, '--cfg-options', '{data}', 'model.backbone.depth=50'), "has no argument 'depth'; it takes allow_mismatch"),
    ((TINY, '--cfg-options', '{data}', 'model.backbone.drop_path_rate=2'), r'drop_path_rate must be in .* got 2'),
    ((TINY, '--cfg-options', '{data}', 'train_dataloader.dataset.pipeline.2.scale=(16,16)',
      'train_dataloader.dataset.pipeline.3.crop_size=(16,16)', 'model.data_preprocessor.size=(16,16)'),
     'images must be at least 32 pixels high and wide, the stride of the network, got 16x16'),
])
def test_training_that_cannot_work_ends_with_one_sentence(data_options, tmp_path, arguments, words):
    expanded = [part for argument in arguments for part in (data_options if argument == '{data}' else [argument])]
    result = tool('train.py', *expanded[:1], '--work-dir', tmp_path, *expanded[1:])
    assert result.returncode == 2, result.stderr
    assert re.search(words, result.stderr) and 'Traceback' not in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith('error: ')]) == 1


def test_a_checkpoint_of_another_model_is_not_evaluated(trained, data_options, tmp_path):
    saved = read_checkpoint(trained / 'iter_4.pth')
    for name, edit, words in (
        ('head', lambda s: s.update({'decode_head.conv_seg.weight': torch.ones(11, 64, 1, 1)}), 'conv_seg.weight'),
        ('backbone', lambda s: s.pop('backbone.stem.0.conv.weight'), "the first 'stem.0.conv.weight'"),
    ):
        state = dict(saved['state_dict'])
        edit(state)
        path = tmp_path / f'{name}.pth'
        torch.save(dict(state_dict=state), path)
        result = tool('test.py', TINY, path, '--work-dir', tmp_path, '--cfg-options', *data_options)
        assert result.returncode == 2 and words in result.stderr and 'Traceback' not in result.stderr, result.stderr
    result = tool('test.py', TINY, tmp_path / 'none.pth', '--cfg-options', *data_options)
    assert result.returncode == 2 and "none.pth' does not exist" in result.stderr
