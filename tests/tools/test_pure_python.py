"""Every tool once on a config in pure Python, whose types are classes."""

import json
import re
import runpy
import sys
import threading
from pathlib import Path

import cv2
import pytest

from mmreplk.mm.data import make_mini_ade20k, make_mini_coco
from tests.mm.config.pure import write_pure
from tests.tools.conftest import interrupted_in_a_tool
from tests.tools.processes import ROOT, tool
from tests.warm import python

ARCH = dict(large_kernel_sizes=[7, 5, 5, 3], layers=[1, 1, 1, 1], channels=[4, 8, 8, 8], small_kernel=3)


@pytest.fixture(scope='module')
def places(tmp_path_factory):
    """Config, data and work dir of a segmentor that tools/train.py has trained."""
    pytest.importorskip('mmseg')
    folder = tmp_path_factory.mktemp('pure')
    data = make_mini_ade20k(folder / 'ade', num_train=4, num_val=2, size=64)
    options = {'model.backbone.arch': ARCH, 'model.decode_head.in_channels': [4, 8, 8, 8],
               'model.decode_head.channels': 8}
    config = write_pure('upernet_replknet_tiny_miniade20k', data, folder, **options)
    run = folder / 'run'
    result = tool('train.py', config, '--work-dir', run, '--amp')
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return dict(CONFIG=config, RUN=run, CHECKPOINT=run / 'iter_2.pth', IMAGES=data / 'images/validation',
                MAPS=data / 'annotations/validation')


@pytest.fixture
def run(places, tmp_path, tmp_path_factory, monkeypatch, capfd):
    """Runs a tool in this process, from another folder; words in capitals stand for places, OUT for the test's own."""
    monkeypatch.chdir(tmp_path_factory.mktemp('cwd'))
    monkeypatch.setattr(threading.Event, 'wait', interrupted_in_a_tool(threading.Event.wait))
    monkeypatch.setattr(sys, 'executable', python('frameworks'))

    def instead(word):
        return re.sub('^[A-Z]+', lambda found: str({**places, 'OUT': tmp_path}[found[0]]), word)

    def run_one(name, command, result):
        monkeypatch.setattr(sys, 'argv', [name, *map(instead, command.split())])
        try:
            runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
        except SystemExit as end:
            assert not end.code, capfd.readouterr().err
        assert result is None or Path(instead(result)).stat().st_size > 100

    return run_one


@pytest.mark.parametrize(('name', 'command', 'result'), [
    ('test.py', 'CONFIG CHECKPOINT --tta --work-dir OUT/test --out OUT/maps', 'OUT/maps/ADE_val_00000001.png'),
    ('predict.py', 'IMAGES --model CONFIG --checkpoint CHECKPOINT --out OUT/predict',
     'OUT/predict/raw/ADE_val_00000001.png'),
    ('serve.py', 'CONFIG CHECKPOINT', None),
    ('analysis_tools/benchmark_acceleration.py', 'CONFIG --size 64 64 --rounds 1 --json OUT/a.json', 'OUT/a.json'),
    ('analysis_tools/benchmark_model.py', 'CONFIG CHECKPOINT --size 64 64 --rounds 2 --batch 2 --json OUT/b.json',
     'OUT/b.json'),
    ('analysis_tools/check_dataset.py', 'CONFIG --cfg-options data_counts.train=4 data_counts.val=2', None),
    ('analysis_tools/check_merge.py', 'CONFIG CHECKPOINT --images IMAGES --count 1 --out OUT', 'OUT/merge.png'),
    ('analysis_tools/compare.py', 'CONFIG --iters 1 --shape 64 64 --out OUT/compare', 'OUT/compare/table.json'),
    ('analysis_tools/contact_sheet.py', 'CONFIG MAPS OUT/sheet.png', 'OUT/sheet.png'),
    ('analysis_tools/erf.py', 'CONFIG CHECKPOINT --images IMAGES --shape 64 64 --out OUT', 'OUT/erf.png'),
    ('analysis_tools/get_flops.py', 'CONFIG --shape 64 64 --json OUT/flops.json', 'OUT/flops.json'),
    ('analysis_tools/show_filters.py', 'CONFIG CHECKPOINT --out OUT', 'OUT/stage1.png'),
])
def test_a_tool_on_a_segmentor(run, name, command, result):
    if name == 'serve.py':
        pytest.importorskip('gradio')
    run(name, command, result)


def test_the_tools_for_deployment_on_a_segmentor(run):
    run('deployment/export.py', 'CONFIG CHECKPOINT --shape 64 64 --out OUT/net.onnx', 'OUT/net.onnx')
    run('deployment/quantize.py', 'CONFIG OUT/net.onnx OUT/int8.onnx --images 2', 'OUT/int8.onnx')
    run('deployment/test_onnx.py', 'CONFIG OUT/net.onnx --work-dir OUT/onnx --rounds 2 --json OUT/c.json', 'OUT/c.json')


def test_the_report_names_what_the_base_has_otherwise(run, tmp_path):
    run('report.py', 'RUN --config CONFIG --out OUT/report.html', 'OUT/report.html')
    page = (tmp_path / 'report.html').read_text()
    assert page.count('data:image/jpeg') == 3
    assert '<code>log_level</code>' not in page, 'which is as the base has it'
    assert '<code>model.type</code>' not in page and '<code>optim_wrapper.type</code>' in page  # by --amp


def test_a_detector_is_trained_and_reported(tmp_path):
    data = make_mini_coco(tmp_path / 'coco', num_train=4, num_val=2, size=64)
    options = {f'{name}_evaluator.ann_file': f'{data}/annotations/instances_val.json' for name in ('val', 'test')}
    options |= {'model.backbone.arch': ARCH, 'model.neck.in_channels': [4, 8, 8, 8],
                'model.test_cfg.rcnn.max_per_img': 5}
    config = write_pure('cascade_mask_rcnn_replknet_tiny_minicoco', data, tmp_path, **options)
    result = tool('train.py', config, '--work-dir', tmp_path / 'run')
    assert result.returncode == 0 and 'coco/segm_mAP' in result.stdout, result.stdout[-3000:] + result.stderr[-3000:]
    result = tool('report.py', tmp_path / 'run', '--out', tmp_path / 'report.html')
    assert result.returncode == 0 and 'mask AP' in (tmp_path / 'report.html').read_text(), result.stderr
    result = tool('test.py', config, tmp_path / 'run/iter_2.pth', '--tta', '--work-dir', tmp_path / 'test')
    assert result.returncode == 0 and 'coco/bbox_mAP' in result.stdout, result.stderr[-3000:]
    cv2.imwrite(str(tmp_path / 'a.png'), cv2.imread(str(next((data / 'val').iterdir()))))
    result = tool('predict.py', tmp_path / 'a.png', '--model', config, '--checkpoint', tmp_path / 'run/iter_2.pth',
                  '--out', tmp_path / 'out')
    assert result.returncode == 0 and 'annotations' in json.loads(Path(tmp_path, 'out/raw/a.json').read_text())
