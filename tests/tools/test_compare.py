import json

import pytest

from tests.tools.conftest import ROOT, TINY, tool


@pytest.fixture
def rival(tmp_path):
    """A config that differs from TINY in its kernels."""
    path = tmp_path / 'small_kernels.py'
    path.write_text(f"_base_ = '{ROOT / TINY}'\n"
                    'model = dict(backbone=dict(arch=dict(large_kernel_sizes=[3, 3, 3, 3], small_kernel=None)))\n')
    return path


def test_trains_evaluates_and_tabulates(rival, data_options, tmp_path):
    pytest.importorskip('mmseg')
    out = tmp_path / 'compare'
    result = tool('compare.py', TINY, rival, '--iters', 2, '--shape', 64, 64, '--out', out, '--cfg-options',
                  *data_options, 'default_hooks.checkpoint.interval=2')
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr
    rows = json.loads((out / 'table.json').read_text())
    assert [row['config'] for row in rows] == ['upernet_replknet_tiny_miniade20k', 'small_kernels']
    assert rows[0]['gflops'] > rows[1]['gflops'] > 0 and rows[0]['params_m'] > rows[1]['params_m'] > 1
    assert all(row['latency_ms'] > 0 and 0 <= row['mIoU'] <= 100 for row in rows)
    assert all(row['checkpoint'].endswith('iter_2.pth') for row in rows)
    assert '| small_kernels |' in (out / 'table.md').read_text() and (out / 'plot.png').stat().st_size > 1000


def test_what_cannot_be_compared(rival, tmp_path):
    result = tool('compare.py', TINY, 'configs/fcos_replknet31b_coco.py', '--out', tmp_path)
    assert result.returncode == 2 and 'must be of one framework' in result.stderr, result.stderr
    result = tool('compare.py', TINY, rival, '--checkpoints', 'a.pth', '--out', tmp_path)
    assert result.returncode == 2 and 'one for each of the 2 configs, got 1' in result.stderr, result.stderr
