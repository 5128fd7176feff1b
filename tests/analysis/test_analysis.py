import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mmreplk.analysis import contact_sheet, op_benchmark, time_in_turns


def test_functions_take_turns(monkeypatch):
    calls, clock = [], SimpleNamespace(now=0.)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(sys.modules[time_in_turns.__module__], 'time', clock)

    def work(name, seconds):
        calls.append(name)
        clock.now += seconds

    times = time_in_turns(dict(short=lambda: work('a', .002), long=lambda: work('b', .02)), rounds=3)
    assert times['short'] == pytest.approx([2] * 3) and times['long'] == pytest.approx([20] * 3)
    assert calls.count('a') == 2 + 3 * 2 * 3 and calls.count('b') == 2 + 3, 'short ones several times a turn'
    turns = [name for name, before in zip(calls, [None, *calls], strict=False) if name != before]
    assert turns == ['a', 'b'] * 4, 'a warm-up and three rounds'


class Pair:
    """Two pictures of 4x6 in ADE20K's convention."""
    metainfo = dict(palette=[[255, 0, 0], [0, 255, 0]])

    def __init__(self, root):
        self.root = root
        for name in ('a', 'b'):
            cv2.imwrite(str(root / f'{name}.jpg'), np.full((4, 6, 3), 90, np.uint8))
            cv2.imwrite(str(root / f'{name}_truth.png'), np.array([[1, 2, 0, 0, 0, 0]] * 4, np.uint8))

    def __len__(self):
        return 2

    def get_data_info(self, i):
        name = 'ab'[i]
        return dict(img_path=str(self.root / f'{name}.jpg'), seg_map_path=str(self.root / f'{name}_truth.png'),
                    reduce_zero_label=True)  # yapf: disable


def test_contact_sheet(tmp_path):
    dataset = Pair(tmp_path)
    (tmp_path / 'maps').mkdir()
    cv2.imwrite(str(tmp_path / 'maps/a.png'), np.array([[2, 2, 1, 1, 1, 1]] * 4, np.uint8))
    with pytest.raises(ValueError, match=r'b.png is missing or not a label map of 6x4 pixels'):
        contact_sheet(dataset, tmp_path / 'maps')
    sheet = contact_sheet(dataset, tmp_path / 'maps', count=1)
    assert sheet.shape == (4, 3 * 6 + 2 * 4, 3)
    red, green, black, white = (0, 0, 255), (0, 255, 0), (0, 0, 0), (255, 255, 255)
    assert [tuple(p) for p in sheet[0, 6:]] == [
        white, white, white, white, red, green, black, black, black, black,
        white, white, white, white, green, green, black, black, black, black
    ]  # yapf: disable


def test_benchmark_times_only_what_is_right():
    case = op_benchmark.Case(n=1, c=4, h=9, k=7)
    rivals = {name: op_benchmark.RIVALS[name] for name in ('mmreplk', 'torch', 'torch.fft')}
    rivals['wrong'] = lambda x, weight: op_benchmark._torch(x, weight) * 1.01
    rivals['other'] = lambda x, weight: x.view(1, 2, 3)
    rows = op_benchmark.benchmark(case, 'float32', 'cpu', rivals=rivals, rounds=3)
    timed = {(row['what'], row['rival']) for row in rows if 'what' in row}
    assert timed == {(w, r) for w in op_benchmark.PASSES for r in ('mmreplk', 'torch', 'torch.fft')}
    assert [row['error'] > 1e-3 for row in rows if row['rival'] == 'wrong'] == [True]
    assert ["shape '[1, 2, 3]' is invalid" in row['raised'] for row in rows if row['rival'] == 'other'] == [True]
    for row in rows:
        if 'what' in row:
            assert row['percentile20_ms'] <= row['median_ms'] <= row['percentile80_ms'] and len(row['raw_ms']) == 3
    # Rows 0 to 8 meet 4, 5, 6, 7, 7, 7, 6, 5, 4 taps of seven.
    assert case.useful_flop('grad_weight') == 2 * 4 * 51**2 == case.useful_flop('forward+backward') / 3
