import ctypes
import sys

import pytest
import torch

from mmreplk import InputError
from mmreplk.benchmarks import runtimes, tables

STRIP = runtimes.Case('SLaK-T', 2, 24, 20, 13, 5)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_all_compute_the_same_and_are_timed(dtype):
    rows = runtimes.compare(STRIP, dtype, rounds=2)
    assert [row['rival'] for row in rows] == ['mmreplk', 'onnxruntime', 'openvino', 'torch']
    for row in rows:
        assert row['error'] < runtimes.TOLERANCE[dtype] and len(row['raw_ms']) == 2 and row['median_ms'] > 0
    assert rows[1]['error'] < 1e-5, 'ONNX Runtime computes in float32'


def test_one_that_is_wrong_is_not_timed(monkeypatch):
    wrong = torch.zeros(2, 24, 20, 20).numpy()
    monkeypatch.setitem(runtimes.RUNTIMES, 'openvino', lambda *_: lambda pixels: [wrong])
    monkeypatch.setattr(runtimes, 'LIMIT_OF_PYTORCH', 0)
    *right, last = runtimes.compare(STRIP, torch.float32, rounds=2)
    assert last['rival'] == 'openvino' and last['error'] == 1 and 'median_ms' not in last
    assert len(right) == 2 and all('median_ms' in row for row in right)
    lines = tables.runtimes_table(dict(results=[*right, last])).splitlines()
    assert lines[2].startswith('| SLaK-T | 2,24,20,13x5 | float32 | ') and len(lines) == 3


def test_the_ratio_is_to_the_better_of_the_two():
    times = dict(mmreplk=2., torch=50., onnxruntime=5., openvino=3.)
    rows = [dict(STRIP._asdict(), dtype='float32', rival=name, median_ms=ms) for name, ms in times.items()]
    assert tables.runtimes_table(dict(results=rows)).splitlines()[-1].endswith('| 2.0 | 5.0 | 3.0 | 50.0 | 1.50 |')


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with pytest.raises(InputError, match=r'openvino must be installed: pip install mmreplk\[runtimes\]'):
        runtimes.versions()


def test_the_stack_for_signals_stays_the_process_s_own():
    before = _signal_stack()
    with torch.no_grad():
        model = runtimes._one_layer(torch.randn(1, 2, 8, 8), torch.randn(2, 1, 3, 3))
    run = runtimes.load_openvino(model, torch.float32)
    assert _signal_stack() == before
    del run
    assert _signal_stack() == before


def _signal_stack():
    stack = (ctypes.c_uint64 * 3)()
    assert ctypes.CDLL(None).sigaltstack(None, stack) == 0
    return list(stack)
