"""What MIM runs and looks for, without MIM: the frameworks' own tools on configs of ours, and our installed package."""

import importlib
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from mmreplk.mm.config import load_config
from mmreplk.mm.data import make_mini_coco
from mmreplk.shipped import config_names
from tests.tools.conftest import TINY
from tests.tools.processes import ROOT
from tests.warm import python

MASKS = 'configs/cascade_mask_rcnn_replknet_tiny_minicoco.py'


# `python -m mmreplk` alone and with a tool, in one process.
TWICE = """
import runpy, sys
for words in [], ['get_flops', 'upernet_replknet_tiny_camvid', '--shape', '64', '64']:
    sys.argv = ['mmreplk', *words]
    try:
        runpy.run_module('mmreplk', run_name='__main__', alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    print('---')
"""


def train(framework, config, work_dir, options):
    script = Path(importlib.import_module(framework).__file__).parent / '.mim/tools/train.py'
    command = [python('frameworks'), str(script), config, '--work-dir', str(work_dir), '--cfg-options', *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def test_segmentor(short_options, tmp_path):
    pytest.importorskip('mmseg')
    # Without GPUs, SyncBN does not run; our own tools see to that.
    norms = [f'model.{part}.norm_cfg.type=BN' for part in ('backbone', 'decode_head')]
    once = 'train_cfg.max_iters=1', 'train_cfg.val_interval=1'
    result = train('mmseg', TINY, tmp_path, [*short_options, *norms, *once])
    assert result.returncode == 0 and 'mIoU: ' in result.stdout, result.stdout[-2000:] + result.stderr[-2000:]
    assert 'evaluating with 6 large-kernel layers merged' in result.stdout


def test_detector(tmp_path):
    pytest.importorskip('mmdet')
    root = make_mini_coco(tmp_path / 'coco', num_train=4, num_val=1, size=64)
    options = [f'{name}_dataloader.dataset.data_root={root}/' for name in ('train', 'val', 'test')]
    options += [f'{name}_evaluator.ann_file={root}/annotations/instances_val.json' for name in ('val', 'test')]
    options += ['train_dataloader.batch_size=2', 'train_cfg.max_iters=1', 'train_cfg.val_interval=1',
                'model.backbone.norm_cfg.type=BN', 'model.test_cfg.rcnn.score_thr=0.0',
                'model.test_cfg.rcnn.max_per_img=5']
    result = train('mmdet', MASKS, tmp_path / 'work', options)
    assert result.returncode == 0 and 'segm_mAP: ' in result.stdout, result.stdout[-2000:] + result.stderr[-2000:]


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """A folder in which the package lies as in an installed wheel."""
    folder = tmp_path_factory.mktemp('site')
    subprocess.run([sys.executable, 'setup.py', '-q', 'build_py', '--build-lib', str(folder)], cwd=ROOT, check=True)
    return folder


def test_an_installed_package_has_what_mim_looks_for(installed):
    mim = installed / 'mmreplk/.mim'
    assert all((mim / 'tools' / name).is_file() for name in ('train.py', 'test.py', 'analysis_tools/get_flops.py'))
    assert not (mim / 'tools/dev').exists(), 'only maintainers run these'
    assert (installed / 'mmreplk/mm/inference/page.css').is_file()
    for source in yaml.safe_load((mim / 'model-index.yml').read_text())['Import']:
        for model in yaml.safe_load((mim / source).read_text())['Models']:
            assert load_config(str(mim / model['Config'])).model


def test_mim_finds_configs_by_their_file_names(installed):
    """It looks for a name in the whole package, and takes none that is there twice."""
    counts = Counter(path.name for path in installed.rglob('*.py'))
    names = [path for name, path in config_names().items() if not path.stem.startswith('base')]
    assert len(names) > 50 and not [path for path in names if counts[path.name] != 1]


def test_an_installed_package_finds_its_own_configs_and_tools(installed, tmp_path):
    said = subprocess.run([python('torch'), '-W', 'ignore', '-c', TWICE], cwd=tmp_path, text=True,
                          env=dict(os.environ, PYTHONPATH=str(installed)), capture_output=True, timeout=300)
    mim = installed / 'mmreplk/.mim'
    assert f'{mim}/configs\n' in said.stdout and f'{mim}/tools\n' in said.stdout, said
    assert said.returncode == 0 and 'G multiply-adds' in said.stdout.partition('---')[2], said
