"""What the demo says follows from what was predicted."""

import re
import runpy
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmreplk.merging import reparameterized
from mmreplk.mm.config import load_config
from mmreplk.mm.data import CLASS_NAMES, NEED_SURROUNDINGS, make_mini_surroundings
from tests.configs.narrowing import inputs
from tests.tools.processes import ROOT

# The discs' classes are not.
DRAWN = set(CLASS_NAMES) - {35, 37, 88, 120}
demo = SimpleNamespace(**runpy.run_path(str(ROOT / 'tools/demo.py')))


@pytest.mark.parametrize(('low', 'high', 'words'), [(3, 9, 'are better: +6.0'), (-9, -3, 'are worse here: -6.0'),
                                                    (-1, 3, 'no difference shows here: +1.0')])
def test_the_sentence_follows_from_the_figures(low, high, words):
    sentence = demo.verdict(demo.Difference((low + high) / 2, low, high), 60)
    assert words in sentence and f'between {low:+.1f} and {high:+.1f}' in sentence and '60 pictures' in sentence


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A small dataset in the place of the demo's, and predictions: all right, and one class wherever it is hard."""
    root = make_mini_surroundings(tmp_path / 'drawn', num_train=1, num_val=12, size=96)
    cfg = load_config(str(ROOT / demo.CONFIGS[demo.LARGE]))
    cfg.test_dataloader.dataset.data_root = str(root)
    monkeypatch.setitem(demo.compare.__globals__, 'load_config', lambda _: cfg)
    new = {label: index for index, label in enumerate(sorted(DRAWN))}
    for folder in ('right', 'wrong'):
        (tmp_path / folder).mkdir()
        for path in (root / 'annotations/validation').iterdir():
            labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if folder == 'wrong':
                labels[np.isin(labels, NEED_SURROUNDINGS)] = NEED_SURROUNDINGS[0]
            numbers = np.array([new.get(label, 0) + 1 for label in range(256)], np.uint8)
            cv2.imwrite(str(tmp_path / folder / path.name), numbers[labels])
    return tmp_path


@pytest.mark.parametrize('large', ['right', 'wrong'])
def test_networks_are_compared_on_both_kinds_of_classes(drawn, large):
    small = {'right': 'wrong', 'wrong': 'right'}[large]
    lines = demo.compare({demo.LARGE: drawn / large, demo.SMALL: drawn / small}, drawn / 'sheet.png')
    rows = [[float(figure) for figure in re.findall(r' (\d+\.\d)', line)] for line in lines if line.startswith('  of ')]
    column = ('right', 'wrong').index(large)
    hard, easy, both = ((row[column], row[1 - column]) for row in rows)
    assert hard[0] == 100 and hard[1] < 30 and easy == (100, 100) and hard[1] < both[1] < both[0] == 100
    assert f'large kernels are {"better" if large == "right" else "worse here"}' in lines[-1]
    assert 'of the 4 classes' in lines[2] and 'of the 20 others' in lines[3] and 'boat' in lines[-2]
    sheet = cv2.imread(str(drawn / 'sheet.png'))
    assert sheet.shape[1] == 4 * (96 + 4) and sheet.shape[0] == 24 + demo.ROWS * (96 + 4)


def test_the_networks_differ_in_their_kernels_only():
    large, small = (load_config(str(ROOT / config)).to_dict() for config in demo.CONFIGS.values())
    kernels = [cfg['model']['backbone']['arch'].pop(key) for cfg in (large, small)
               for key in ('large_kernel_sizes', 'small_kernel')]
    assert kernels == [[31, 29], 5, [3, 3], 3]
    for cfg in (large, small):
        cfg.pop('work_dir')
    assert large == small
    assert [name.strip() for name in large['classes']] == [CLASS_NAMES[label] for label in sorted(DRAWN)]


@pytest.mark.parametrize('config', demo.CONFIGS.values())
def test_the_networks_learn_and_merge(config):
    cfg = load_config(str(ROOT / config))
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model).train()
    loss, _ = model.parse_losses(model(*inputs(cfg), mode='loss'))
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in model.parameters())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = model.eval()(images)
        with reparameterized(model):
            torch.testing.assert_close(model(images), before, rtol=1e-4, atol=1e-4)


WAITING = """
import sys, time
from pathlib import Path
own, other = map(Path, sys.argv[1:])
own.touch()
while not other.exists():
    time.sleep(0.01)
print(f'2026 Iter(train) [ 20/400]  eta: 0:03:05  time: 0.4  loss: 1.25  {own.name}')
"""


@pytest.fixture
def script(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)
    return write


def test_tools_run_at_the_same_time(tmp_path, script, capsys):
    waiting = script('waiting.py', WAITING)
    ways = str(tmp_path / 'a'), str(tmp_path / 'b')
    printed = demo.commands([waiting, *ways], [waiting, *reversed(ways)])
    assert [lines.split()[-1] for lines in printed] == ['a', 'b']
    last = capsys.readouterr().out.split('\r')[-1].strip()
    assert last == 'train 20/400, loss 1.25 | train 20/400, loss 1.25, 0:03:05 left'


def test_where_one_fails_the_others_are_ended(script):
    fails = script('fails.py', 'import sys; sys.exit("the disk is full")')
    waits = script('waits.py', 'import time; time.sleep(600)')
    start = time.time()
    with pytest.raises(SystemExit, match='the disk is full\nerror: .*fails.py failed with exit code 1'):
        demo.commands([waits], [fails])
    assert time.time() - start < 300
