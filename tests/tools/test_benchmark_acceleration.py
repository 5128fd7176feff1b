import json
import runpy
import sys

import pytest

from tests.tools.processes import ROOT, tool

SMALL = """
default_scope = 'mmseg'
model = dict(backbone=dict(type='MSCAN', embed_dims=[8, 8, 8, 8], mlp_ratios=[2] * 4, depths=[1] * 4))
"""


def test_the_backbone_of_a_config_is_measured(tmp_path):
    config, report = tmp_path / 'small.py', tmp_path / 'report.json'
    config.write_text(SMALL)
    result = tool('analysis_tools/benchmark_acceleration.py', config, '--size', '64', '64', '--rounds', '1',
                  '--dtype', 'float32', 'bfloat16', '--json', report)
    assert result.returncode == 0, result.stderr
    rows = json.loads(report.read_text())['results']
    assert [(row['work'], row['dtype']) for row in rows] == [
        (work, dtype) for dtype in ('float32', 'bfloat16') for work in ('inference', 'training')]
    assert all(row['model'] == 'MSCAN (small)' and row['layers'] > 20 for row in rows)
    assert rows[0]['errors']['fast']['output'] < 1e-5


def test_a_model_without_such_layers_is_named(tmp_path):
    config = tmp_path / 'dense.py'
    config.write_text("default_scope = 'mmseg'\nmodel = dict(backbone=dict(type='ResNet', depth=18))\n")
    result = tool('analysis_tools/benchmark_acceleration.py', config, '--size', '64', '64', '--rounds', '1')
    assert result.returncode == 2
    assert 'ResNet (dense) has no depthwise convolution that could be faster' in result.stderr
    assert 'Traceback' not in result.stderr


@pytest.mark.parametrize(('arguments', 'words'), [
    (['no_such_model'], 'whose name ends in .py'),
    (['configs/none.py'], "config 'configs/none.py' does not exist"),
    (['SMALL', '--size', '0', '64'], 'must be positive, got'),
    (['SMALL', '--batch', '-1'], 'must be positive, got'),
    (['SMALL', '--rounds', '0'], 'must be positive, got'),
    (['SMALL', '--json', 'FOLDER', '--dtype', 'bfloat16'], 'must be a file, it is a folder'),
])
def test_what_cannot_be_measured_is_said(tmp_path, monkeypatch, capsys, arguments, words):
    (tmp_path / 'small.py').write_text(SMALL)
    places = dict(SMALL=str(tmp_path / 'small.py'), FOLDER=str(tmp_path))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, 'argv', ['benchmark_acceleration.py', *(places.get(word, word) for word in arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path('tools/analysis_tools/benchmark_acceleration.py', run_name='__main__')
    assert ended.value.code == 2 and words in capsys.readouterr().err
