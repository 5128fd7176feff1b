"""The tools that show what a network sees and has learned, run as a user runs them."""

import json
import runpy
import sys

import cv2
import numpy as np
import pytest

from tests.tools.conftest import TINY
from tests.tools.processes import ROOT, tool

RESNET = """
_base_ = '{base}'
model = dict(backbone=dict(_delete_=True, type='ResNet', depth=18, init_cfg=None))
"""


def picture(path):
    image = cv2.imread(str(path))
    assert min(image.shape[:2]) > 250 and len(np.unique(image)) > 50, path
    return image


def test_receptive_fields_side_by_side(trained, data_root, tmp_path):
    images = data_root / 'images/validation'
    resnet = tmp_path / 'resnet.py'
    resnet.write_text(RESNET.format(base=(trained / TINY.split('/')[1]).resolve()))
    options = ['--images', images, '--shape', 64, 64, '--out', tmp_path]
    result = tool('analysis_tools/erf.py', TINY, trained / 'iter_4.pth', '--model', 'a ResNet', resnet, *options)
    assert result.returncode == 0 and result.stdout.count('2/2') == 3, result.stdout + result.stderr
    trained_field, other = (np.load(tmp_path / f'{n}.npy') for n in ('upernet_replknet_tiny_miniade20k', 'a_ResNet'))
    assert trained_field.shape == other.shape == (64, 64) and min(trained_field.min(), other.min()) == 0
    report = json.loads((tmp_path / 'erf.json').read_text())
    assert [model['name'] for model in report['models']] == ['upernet_replknet_tiny_miniade20k', 'a ResNet']
    for model in report['models']:
        ratios = list(model['area_ratio'].values())
        assert list(model['area_ratio']) == ['0.2', '0.3', '0.5', '0.99']
        assert ratios == sorted(ratios) and ratios[0] > 0 and ratios[-1] <= 1
    two = picture(tmp_path / 'erf.png')
    figure = tmp_path / 'pictures/one.jpg'
    again = tool('analysis_tools/erf.py', '--model', 'again', tmp_path / 'a_ResNet.npy', '--out', tmp_path,
                 '--figure', figure)
    assert again.returncode == 0 and picture(figure).shape[1] < two.shape[1], again.stderr
    assert json.loads((tmp_path / 'erf.json').read_text())['models'][0]['area_ratio'] == model['area_ratio']


@pytest.mark.parametrize(('arguments', 'message'), [
    ([TINY], '--images is needed'),
    ([], 'there is no model to measure'),
    (['--model', 'name'], '--model must be a NAME of its own, a CONFIG and'),
    ([TINY, '--images', 'docs/benchmarks/nothing'], 'there is no picture'),
    (['--model', 'name', 'setup.npy'], "'setup.npy' cannot be read as a matrix"),
])
def test_what_a_receptive_field_cannot_be_measured_of(arguments, message, tmp_path, monkeypatch, capsys):
    for name in ('WEIGHTS_ONLY', 'NO_WEIGHTS_ONLY'):  # the tool sets them for the process
        monkeypatch.setenv(f'TORCH_FORCE_{name}_LOAD', '0')
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, 'argv', ['analysis_tools/erf.py', *arguments, '--out', str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path('tools/analysis_tools/erf.py', run_name='__main__')
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_kernels_and_what_merging_changes(trained, data_root, tmp_path):
    result = tool('analysis_tools/show_filters.py', TINY, trained / 'iter_4.pth', '--out', tmp_path)
    assert result.returncode == 0, result.stderr
    for stage in (1, 2, 3, 4):
        picture(tmp_path / f'stage{stage}.png')
    layers = json.loads((tmp_path / 'filters.json').read_text())['layers']
    assert [layer['kernel_size'] for layer in layers] == [31, 29, 27, 27, 27, 13]
    assert all(0 < layer['radius50'] <= layer['radius90'] <= 22 for layer in layers)
    assert f'| stages.0.blocks.0 | 31 | 5 | {layers[0]["centre_share"]:.1%} | ' in result.stdout
    images = data_root / 'images/validation'
    result = tool('analysis_tools/check_merge.py', TINY, trained / 'iter_4.pth', '--images', images, '--count', 1,
                  '--out', tmp_path)
    assert result.returncode == 0, result.stderr
    picture(tmp_path / 'merge.png')
    report = json.loads((tmp_path / 'merge.json').read_text())
    assert [layer['name'] for layer in report['layers']] == [layer['name'] for layer in layers]
    assert all(0 < row['max_rel'] < 1e-4 for row in report['layers'] + report['features']) and report['count'] == 1
