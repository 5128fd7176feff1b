"""Which tile is taken: what the cost model ranks first, or what was measured and remembered. Launches nothing."""

import importlib.util
import itertools
import math
import statistics
import sys
from types import SimpleNamespace

import pytest
import torch

from tests.warm import python

if importlib.util.find_spec('triton') is None:
    pytest.skip('Triton is not installed', allow_module_level=True)

from mmreplk.ops import tuning as store
from mmreplk.ops.gpu import MOST_REACH, gains
from mmreplk.ops.triton import cost, layout, tiles, trial, tuning
from mmreplk.ops.triton.tiles import Problem

H100 = cost.GPUS[90]
# RepLKNet-31B's stages on 512x512 images: (C, H = W, K).
STAGES = [(128, 128, 31), (256, 64, 29), (512, 32, 27), (1024, 16, 13)]
PROBLEM = Problem(1, 2, 40, 40, 31, 31)
CANDIDATES = cost.forward_tiles(PROBLEM, H100)
TRY = trial._try  # which the fixture replaces


def forget(monkeypatch):
    """As a new process would."""
    monkeypatch.setattr(store, '_known', {})
    monkeypatch.setattr(tuning, '_answers', {})


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A stand-in for a CUDA tensor, with tuning on and its choices in a folder of the test's."""
    monkeypatch.setenv('MMREPLK_AUTOTUNE', '1')
    monkeypatch.setenv('MMREPLK_CACHE', str(tmp_path))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'A GPU')
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)
    monkeypatch.setattr(tuning, '_milliseconds', lambda run: -run.args[0].num_stages - run.args[0].block_k)
    monkeypatch.setattr(trial, '_try', lambda kernel, device: trial.WORKS)
    forget(monkeypatch)
    return SimpleNamespace(is_cuda=True, dtype=torch.bfloat16, device='cuda:0')


def test_the_fastest_tile_is_measured_once_and_remembered_on_disk(gpu, tmp_path, monkeypatch):
    tried = []

    def launch(tile):
        tried.append(tile)
        return torch.ones(3)

    best = tuning.best('forward', PROBLEM, gpu, CANDIDATES, launch)
    assert best == max(CANDIDATES, key=lambda tile: tile.num_stages + tile.block_k) and set(tried) == set(CANDIDATES)
    tried.clear()
    forget(monkeypatch)
    assert tuning.best('forward', PROBLEM, gpu, CANDIDATES, launch) == best and not tried
    with monkeypatch.context() as patch:
        patch.setattr(store, 'remembered', lambda *_: pytest.fail('this process knows'))
        assert tuning.best('forward', PROBLEM, gpu, CANDIDATES, launch) == best
    assert [path.name for path in tmp_path.glob('*.json')] == ['A_GPU.json']
    larger = PROBLEM._replace(h=44, w=47)  # of the same class
    assert tuning.best('forward', larger, gpu, CANDIDATES, launch) == best and not tried
    # Another version of the package, whose candidates are others, measures again.
    others = [tile for tile in CANDIDATES if tile != best]
    assert tuning.best('forward', PROBLEM, gpu, others, launch) in others and tried


@pytest.mark.parametrize('fault', ['raises', 'differs', 'is not a number'])
def test_a_tile_that_cannot_be_trusted_is_passed_over(gpu, fault, caplog):
    bad = max(CANDIDATES[1:], key=lambda tile: tile.num_stages + tile.block_k)

    def launch(tile):
        if tile == bad and fault == 'raises':
            raise RuntimeError('the compiler gave up')
        wrong = {'differs': 1.1, 'is not a number': math.nan}.get(fault, 1)
        return torch.full((3,), wrong if tile == bad else 1.)

    best = tuning.best('forward', PROBLEM, gpu, CANDIDATES, launch)
    assert best != bad and str(tuple(bad)) in caplog.text


def test_descriptors_that_do_not_work_are_tried_once_elsewhere(gpu, monkeypatch, caplog):
    """In another process, which here ends because it finds no GPU."""
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.setattr(sys, 'executable', python('torch'))
    gpu.device = torch.device('cuda:0')
    launched, tries = [], []

    def launch(tile):
        launched.append(tile)
        return torch.ones(3)

    monkeypatch.setattr(trial, '_try', lambda *arguments: tries.append(arguments) or TRY(*arguments))
    for problem in PROBLEM, PROBLEM._replace(c=77):
        assert not tuning.best('forward', problem, gpu, CANDIDATES, launch).descriptors
    assert launched and not any(tile.descriptors for tile in launched) and len(tries) == 1
    message, = caplog.messages
    assert message.startswith('forward is not run with tensor descriptors: its trial ended with 1: ')


def test_a_trial_that_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr(trial, 'SECONDS', .01)
    assert trial._try('grad_weight', torch.device('cuda:0')) == 'it did not end within 0.01 s'


def test_results_of_zeros_are_the_same(gpu, caplog):
    best = tuning.best('forward', PROBLEM, gpu, CANDIDATES, lambda tile: torch.zeros(3, dtype=torch.float16))
    assert best == max(CANDIDATES, key=lambda tile: tile.num_stages + tile.block_k) and not caplog.text


def test_a_default_that_fails_is_an_error(gpu):
    def launch(tile):
        raise RuntimeError('the GPU is gone')

    with pytest.raises(RuntimeError, match='the GPU is gone'):
        tuning.best('forward', PROBLEM, gpu, CANDIDATES, launch)


def test_nothing_is_measured_during_capture_or_where_tuning_is_off(gpu, monkeypatch):
    def best():
        return tuning.best('forward', PROBLEM, gpu, CANDIDATES, lambda tile: pytest.fail('measured'))

    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)
    assert best() == CANDIDATES[0]
    monkeypatch.setenv('MMREPLK_AUTOTUNE', '0')
    assert best() == CANDIDATES[0]


@pytest.mark.parametrize('stage', STAGES, ids=str)
@pytest.mark.parametrize('n', [16, 1])
@pytest.mark.parametrize('sm', cost.GPUS)
def test_the_unmeasured_default_fits_the_gpu_and_takes_no_risk(sm, n, stage):
    c, h, k = stage
    for itemsize, precision in (2, 'tf32'), (4, 'tf32'), (4, 'tf32x3'), (4, 'bf16x3'):
        problem, gpu = Problem(n, c, h, h, k, k, 1, 1, itemsize, precision), cost.GPUS[sm]
        if precision != 'bf16x3':
            first, *others = cost.forward_tiles(problem, gpu)
            assert not first.descriptors and cost.forward(problem, first, gpu) < math.inf
            assert any(tile.descriptors for tile in others) == (sm >= 90 and itemsize == 2)
        first, *others = cost.grad_weight_tiles(problem, gpu)
        assert not first.descriptors and cost.grad_weight(problem, first, gpu) < math.inf
        assert any(tile.descriptors for tile in others) == (sm >= 90 and itemsize == 2)


@pytest.mark.parametrize('sm', cost.GPUS)
def test_there_is_a_tile_that_fits_for_every_filter_that_is_let_through(sm):
    """Up to the widest, dilated or not, for narrow and wide maps."""
    gpu, sizes = cost.GPUS[sm], (8, 16, 40, 64, 200, 1024)
    filters = [(k, d) for k in (1, 3, 7, 31, 63, 127, 255, 481) for d in (1, 2, 7, 80) if k // 2 * d <= MOST_REACH]
    for (k, d), w, n, kinds in itertools.product(filters, sizes, (1, 16), [(2, 'tf32'), (4, 'tf32'), (4, 'tf32x3')]):
        problem = Problem(n, 8, w, w, k, k, d, d, *kinds)
        assert cost.forward(problem, cost.forward_tiles(problem, gpu)[0], gpu) < math.inf, problem
        assert cost.grad_weight(problem, cost.grad_weight_tiles(problem, gpu)[0], gpu) < math.inf, problem
    assert max(k // 2 * d for k, d in filters) == MOST_REACH


def test_tiles_that_do_not_fit_are_no_candidates():
    problem = Problem(16, 8, 200, 200, 255, 255, itemsize=4)
    for ranked, predict in (cost.forward_tiles, cost.forward), (cost.grad_weight_tiles, cost.grad_weight):
        found = ranked(problem, cost.GPUS[86])
        assert found and all(predict(problem, tile, cost.GPUS[86]) < math.inf for tile in found)


def test_many_rows_get_wide_blocks_and_few_rows_small_ones():
    c, h, k = STAGES[0]
    many, few = (cost.forward_tiles(Problem(n, c, h, h, k, k), H100)[0] for n in (16, 1))
    assert many.block_n == 256 and few.block_n * few.depth * few.block_x < many.block_n * many.depth * many.block_x
    # 2-byte operands of a wide block are bound by L2, which a block of half the width is by more.
    problem = Problem(16, c, h, h, k, k)
    wide, narrow = (cost.forward_step(problem, many._replace(block_n=n), H100) for n in (256, 128))
    assert wide.bound == narrow.bound == 'l2' and wide.cycles < 2 * narrow.cycles


def test_a_step_is_counted_as_by_hand():
    """128 x 128 x 64 products of 2 bytes on an H100: two warp groups of 64 rows each read all columns."""
    step = cost.step(H100, 128, 128, 64, 8, 2, 'tf32', instructions=138)
    assert (step.l2_bytes, step.shared_bytes) == (32 * 1024, 32 * 1024 + 48 * 1024)
    assert step[2:] == pytest.approx((512, 276, 640, 32 * 1024 / 24)) and step.bound == 'l2'


def test_blocks_of_stacks_leave_least_empty():
    for block, images, per_image in [(64, 16, 49), (64, 1, 49), (128, 3, 5), (16, 70, 2), (64, 2, 32)]:
        cut = tiles.split(block, images, per_image)
        assert math.prod(cut) == block
        slots = [tiles.round_up(images, block >> i) * tiles.round_up(per_image, 1 << i) for i in range(9) if block >> i]
        assert tiles.round_up(images, cut[0]) * tiles.round_up(per_image, cut[1]) == min(slots)


def test_float32_gradients_do_without_a_precision_that_triton_lacks(monkeypatch):
    from mmreplk.ops.triton import grad_weight as passes
    module = importlib.import_module(passes.__module__)
    x = torch.empty(1, 1, 8, 8)
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', True)
    for sm, has, expected in (90, True, 'bf16x3'), (90, False, 'tf32'), (120, True, 'tf32'), (80, True, 'tf32'):
        monkeypatch.setattr(layout, 'HAS_BF16X3', has)
        assert module.product_precision(x, cost.GPUS[sm]) == expected
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    assert module.product_precision(x, H100) == 'tf32x3' and module.product_precision(x.half(), H100) == 'tf32'


@pytest.mark.parametrize('sm', [80, 90, 100])
@pytest.mark.parametrize('is_training', [False, True])
def test_the_choice_of_a_backend_is_the_answer_of_the_cost_model(sm, is_training):
    """Over UniRepLKNet's and RepLKNet's sizes and branches: never much worse, and seldom a chance missed."""
    gpu, ratios = cost.GPUS[sm], {True: [], False: []}
    kernels = [(3, 1), (5, 1), (7, 1), (3, 3), (3, 7), (7, 2), (9, 2), (13, 1), (31, 1)]
    maps = [(80, 128), (160, 64), (320, 32), (640, 16), (96, 56), (192, 28), (384, 14)]
    for (k, dilation), n, (c, h), itemsize in itertools.product(kernels, (64, 16, 1), maps, (2, 4)):
        problem = Problem(n, c, h, tiles.round_up(h, tiles.ALIGN), k, k, dilation, dilation, itemsize)
        ours = cost.forward(problem, cost.forward_tiles(problem, gpu)[0], gpu)
        theirs = cost.pytorch(problem, 'forward', gpu)
        if is_training:
            ours = 2 * ours + cost.grad_weight(problem, cost.grad_weight_tiles(problem, gpu)[0], gpu)
            theirs = 2 * theirs + cost.pytorch(problem, 'grad_weight', gpu)
        ratios[gains(n * c * h * h, (k, k), is_training)].append(theirs / ours)
    assert min(ratios[True]) > .75 and statistics.median(ratios[True]) > 2.5
    assert statistics.median(ratios[False]) < .9 and statistics.quantiles(ratios[False], n=10)[8] < 1.7
