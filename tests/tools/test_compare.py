import importlib.util
import json
import sys

import pytest
from mmengine.config import Config

from mmreplk import InputError
from tests.tools.conftest import REAL, TINY
from tests.tools.processes import ROOT
from tests.warm import python


@pytest.fixture
def compare(monkeypatch):
    """The tool with a command line, in this process: what it trains and tests runs in others, that are forked."""
    spec = importlib.util.spec_from_file_location('compare', ROOT / 'tools/analysis_tools/compare.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, 'executable', python('frameworks'))

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['analysis_tools/compare.py', *map(str, arguments)])
        module.main(module.parse_args())

    call.module = module
    return call


@pytest.fixture
def rival(tmp_path):
    """A config that differs from TINY in its kernels."""
    path = tmp_path / 'small_kernels.py'
    path.write_text(f"_base_ = '{ROOT / TINY}'\n"
                    'model = dict(backbone=dict(arch=dict(large_kernel_sizes=[3, 3, 3, 3], small_kernel=None)))\n'
                    "published = {'ADE20K mIoU': 46.05}\n")
    return path


def test_trains_evaluates_tabulates_and_goes_on(compare, rival, short_options, tmp_path, capsys):
    pytest.importorskip('mmseg')
    out = tmp_path / 'compare'
    command = [TINY, rival, '--iters', 1, '--shape', 64, 64, '--out', out, '--cfg-options', *short_options]
    compare(*command)
    output = capsys.readouterr().out
    assert '[2/2] small_kernels, seed 0' in output and '0 to go' in output
    report = json.loads((out / 'table.json').read_text())
    large, small = report['rows']
    assert (large['config'], small['config']) == ('upernet_replknet_tiny_miniade20k', 'small_kernels')
    assert report['budget'] == dict(iterations=1, batch_size=2)
    assert large['gflops'] > small['gflops'] > 0 and large['params_m'] > small['params_m'] > 1
    assert all(row['latency_ms'] > 0 and 0 <= row['results'][0]['mIoU'] <= 100 for row in report['rows'])
    assert small['published'] == {'ADE20K mIoU': 46.05} and large['published'] == {}
    assert '| small_kernels |' in (out / 'table.md').read_text() and (out / 'plot.png').stat().st_size > 1000
    # As if it had been interrupted before the second run was evaluated.
    trained = out / 'small_kernels/seed0/iter_1.pth'
    before = trained.stat().st_mtime_ns
    (out / 'small_kernels/seed0.json').unlink()
    compare(*command)
    assert trained.stat().st_mtime_ns == before
    assert [row['results'] for row in json.loads((out / 'table.json').read_text())['rows']] \
        == [row['results'] for row in report['rows']]
    assert len(list((out / 'small_kernels/seed0/test').glob('*/*.json'))) == 2
    assert len(list((out / 'upernet_replknet_tiny_miniade20k/seed0/test').glob('*/*.json'))) == 1
    with pytest.raises(InputError, match='is a run of another config or budget: give another --out, or delete'):
        compare(*command, 'optim_wrapper.optimizer.lr=1')


def test_a_tool_that_fails_is_a_process_whose_last_lines_are_said(compare, tmp_path):
    log = tmp_path / 'log.txt'
    with pytest.raises(InputError, match=rf'tools/report.py failed, see {log}:\n(.*\n)*.*arguments: --nothing'):
        compare.module.tool('report.py', tmp_path, '--nothing', log=log)


def test_costs_alone(compare, rival, tmp_path):
    pytest.importorskip('mmseg')
    compare(TINY, rival, '--costs-only', '--shape', 64, 64, '--out', tmp_path)
    report = json.loads((tmp_path / 'table.json').read_text())
    assert report['metrics'] == [] and report['budget'] is None
    assert report['rows'][0]['gflops'] > report['rows'][1]['gflops'] > 0
    assert {path.name for path in tmp_path.iterdir()} == {'table.json', 'table.md', rival.name}


@pytest.mark.parametrize(('arguments', 'message'), [
    (['configs/fcos_replknet31b_coco.py'], 'must be of one framework'),
    ([TINY], 'of different names'),
    ([REAL, '--checkpoints', 'a.pth'], 'one for each of the 2 configs, got 1'),
    ([REAL, '--seeds', 0], '--seeds must be at least 1, and is for training, got 0'),
])
def test_what_cannot_be_compared(compare, arguments, message, tmp_path):
    pytest.importorskip('mmseg')
    if 'coco' in arguments[0]:
        pytest.importorskip('mmdet')
    with pytest.raises(InputError, match=message):
        compare(TINY, *arguments, '--out', tmp_path)


@pytest.mark.parametrize('found, compared', [
    ({'coco/bbox_mAP': 0.327, 'coco/bbox_mAP_50': 0.6}, {'coco/bbox_mAP': 32.7}),
    ({'coco/bbox_mAP': 0.327, 'coco/segm_mAP': 0.335}, {'coco/bbox_mAP': 32.7, 'coco/segm_mAP': 33.5}),
    ({'mIoU': 40.7, 'aAcc': 86.0}, {'mIoU': 40.7}),
])
def test_metrics_are_compared_in_percent(compare, tmp_path, monkeypatch, found, compared):

    def evaluate(name, *arguments, log):
        folder = tmp_path / 'seed0/test/20260101_000000'
        folder.mkdir(parents=True)
        (folder / '20260101_000000.json').write_text(json.dumps(found))

    monkeypatch.setattr(compare.module, 'tool', evaluate)
    cfg = Config.fromfile(ROOT / TINY)
    result, is_new = compare.module.finish(tmp_path / 'seed0', cfg, 'x.pth')
    assert result == pytest.approx(compared) and is_new
