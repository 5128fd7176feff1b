import re
import socket
import sys

import pytest

from mmreplk.mm.data import make_mini_ade20k, make_mini_coco
from tests.tools.processes import tool

TINY = 'configs/upernet_replknet_tiny_miniade20k.py'
MASKS = 'configs/cascade_mask_rcnn_replknet_tiny_minicoco.py'
REAL = 'configs/upernet_replknet31b_ade20k.py'


def miou(output):
    """Returns the last mIoU in what MMSegmentation logged, in percent."""
    return float(re.findall(r'mIoU: ([0-9.]+)', output)[-1])


def interrupted_in_a_tool(wait):
    """Returns what lets threads wait, but not a tool for its Ctrl-C."""

    def instead(event, timeout=None):
        if sys._getframe(1).f_code.co_filename.endswith('tools/serve.py'):
            raise KeyboardInterrupt
        return wait(event, timeout)

    return instead


def free_port():
    """Returns a port at which the processes of a test can meet, as text."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return str(free.getsockname()[1])


@pytest.fixture(scope='session')
def data_root(tmp_path_factory):
    return make_mini_ade20k(tmp_path_factory.mktemp('data') / 'ade', num_train=8, num_val=2)


@pytest.fixture(scope='session')
def data_options(data_root):
    return [f'{name}_dataloader.dataset.data_root={data_root}' for name in ('train', 'val', 'test')]


@pytest.fixture(scope='session')
def short_options(data_options):
    """What makes the tiny config train four iterations with an evaluation and a checkpoint every second."""
    return [
        *data_options, 'train_dataloader.dataset.pipeline.2.scale=(64,64)',
        'train_dataloader.dataset.pipeline.3.crop_size=(64,64)', 'model.data_preprocessor.size=(64,64)',
        'train_dataloader.batch_size=2', 'train_cfg.max_iters=4', 'train_cfg.val_interval=2',
        'default_hooks.checkpoint.interval=2', 'default_hooks.logger.interval=1'
    ]


@pytest.fixture(scope='session')
def trained(tmp_path_factory, short_options):
    """The work dir of a short training of the tiny config."""
    work_dir = tmp_path_factory.mktemp('trained')
    result = tool('train.py', TINY, '--work-dir', work_dir, '--cfg-options', *short_options)
    assert result.returncode == 0, result.stdout + result.stderr
    return work_dir


@pytest.fixture(scope='session')
def masks(tmp_path_factory):
    """Options and work dir of a short training of the config with masks."""
    root = make_mini_coco(tmp_path_factory.mktemp('coco') / 'mini', num_train=8, num_val=2, size=96)
    options = [f'{name}_dataloader.dataset.data_root={root}/' for name in ('train', 'val', 'test')]
    options += [f'{name}_evaluator.ann_file={root}/annotations/instances_val.json' for name in ('val', 'test')]
    options += ['train_dataloader.batch_size=2', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
                'param_scheduler.0.end=1', 'param_scheduler.1.begin=1', 'param_scheduler.1.end=2',
                'default_hooks.checkpoint.interval=2', 'default_hooks.logger.interval=1',
                'model.test_cfg.rcnn.score_thr=0.0',
                'model.test_cfg.rcnn.max_per_img=10']
    work_dir = tmp_path_factory.mktemp('masks')
    result = tool('train.py', MASKS, '--work-dir', work_dir, '--cfg-options', *options)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
    return options, work_dir, result.stdout
