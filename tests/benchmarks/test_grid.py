import json

import pytest
import torch

from mmreplk.benchmarks import grid
from mmreplk.ops import cpu
from mmreplk.ops.cpu import costs
from mmreplk.ops.cpu.ways import Problem

PROBLEM = Problem(1, 20, 16, 16, 15, 13, torch.float32, False, False)


@pytest.mark.skipif(not cpu.IS_SUPPORTED, reason='needs AVX2: elsewhere PyTorch computes')
def test_all_ways_that_may_be_best_are_timed_in_every_pass():
    for problem in (PROBLEM, PROBLEM._replace(kh=51), PROBLEM._replace(kh=5, kw=5, dy=3, dx=3)):
        row = grid.measure(problem, 'cpu', rounds=2)
        assert set(row['ms']) == set(row['calls']) == set(row['chosen']) == set(grid.PASSES)
        for what, times in row['ms'].items():
            assert {'torch', row['chosen'][what]} <= set(times) and len(times) > 2
            assert set(row['calls'][what]) == {'mmreplk', 'torch'}
            assert all(t > 0 for t in (*times.values(), *row['calls'][what].values()))


@pytest.mark.skipif(not cpu.IS_SUPPORTED, reason='needs AVX2: elsewhere PyTorch computes')
def test_pytorch_is_not_timed_where_it_is_hopeless_but_is_where_the_operator_takes_it(monkeypatch):
    monkeypatch.setattr(grid, 'LIMIT_OF_PYTORCH', 0)
    for backend in ('cpu', 'torch'):
        monkeypatch.setattr(grid.functional, 'choose_backend', lambda *_, backend=backend: backend)
        monkeypatch.setattr(grid.functional, '_PLANS', {})
        row = grid.measure(PROBLEM._replace(kh=17, kw=17), 'cpu', rounds=2)
        assert all(('torch' in times) == (backend == 'torch') for times in row['ms'].values())
        assert all(0 < grid.speed(row, what)[0] <= 1 for what in grid.PASSES)


def test_the_grid_has_squares_and_strips_in_both_formats():
    problems = list(grid.problems([torch.float32, torch.bfloat16]))
    assert len(set(problems)) == len(problems) > 1000
    assert {(p.kh, p.kw) for p in problems} >= {(31, 31), (51, 5), (5, 51), (1, 19), (19, 1)}
    assert {(p.kh, p.dy, p.dx) for p in problems} >= {(3, 7, 7), (9, 2, 2)}
    assert {(p.dtype, p.channels_last) for p in problems} == {
        (dtype, last) for dtype in (torch.float32, torch.bfloat16) for last in (False, True)}


def test_a_run_that_was_cut_off_goes_on(monkeypatch, tmp_path):
    problems, measured = [PROBLEM._replace(n=n) for n in (1, 2, 3)], []

    def measure(problem, device, rounds):
        if problem.n == 3 and len(measured) < 3:
            raise KeyboardInterrupt
        measured.append(problem.n)
        return dict(grid.key(problem), ms={}, chosen={}, calls={})

    monkeypatch.setattr(grid, 'problems', lambda dtypes: problems)
    monkeypatch.setattr(grid, 'measure', measure)
    path = tmp_path / 'folder' / 'grid.jsonl'
    with pytest.raises(KeyboardInterrupt):
        grid.run(path, [torch.float32], 'cpu', 2)
    assert [json.loads(line)['n'] for line in path.read_text().splitlines()] == measured == [1, 2]
    measured.append(0)
    assert [row['n'] for row in grid.run(path, [torch.float32], 'cpu', 2)] == [1, 2, 3]
    assert len(grid.run(tmp_path / 'other.jsonl', [torch.float32], 'cpu', 2, sample=2)) == 2
    assert measured[:4] == [1, 2, 0, 3] and len(measured) == 6


def test_the_summary_tells_where_the_choice_is_slow(monkeypatch):
    row = dict(grid.key(PROBLEM), **{
        'ms': {what: {'ours': 2.0, 'torch': 8.0, 'a way': 1.9} for what in grid.PASSES},
        'chosen': dict.fromkeys(grid.PASSES, 'ours'),
        'calls': {what: {'mmreplk': 2.01, 'torch': 8.04} for what in grid.PASSES}})
    row['ms']['grad_weight']['another'] = 1.0
    monkeypatch.setattr(costs, 'OVERHEAD', 0.015)
    monkeypatch.setattr(costs, 'OVERHEAD_OF_GRADIENT', 0.04)
    share, best = grid.speed(row, 'forward')
    assert best == 'a way' and abs(share - 1.915 / 2.015) < 1e-9, 'calls take 0.015 longer than PyTorch'
    text = grid.summary([row])
    assert 'forward, float32, contiguous: below 0.9 of the best in 0 of 1 shapes' in text
    assert 'in 1 of 1 shapes\n  0.51 1,20,16,15x13: ours, the best is another' in text
    assert 'forward, as called: PyTorch takes 4.00 to 4 times as long, less than 0.9 times in 0 of 1; ' in text
    assert 'a call costs 10 microseconds' in text


def test_a_gpu_has_calls_only():
    row = dict(grid.key(PROBLEM), ms={what: {'torch': 8.0} for what in grid.PASSES},
               chosen=dict.fromkeys(grid.PASSES, 'triton'),
               calls={what: {'mmreplk': 2.0, 'torch': 8.0} for what in grid.PASSES})
    assert grid.summary([row]).splitlines()[0] == (
        'forward, as called: PyTorch takes 4.00 to 4 times as long, less than 0.9 times in 0 of 1')


@pytest.mark.skipif(not cpu.IS_SUPPORTED, reason='needs AVX2: elsewhere PyTorch computes')
def test_a_choice_that_seems_slow_is_timed_again(monkeypatch):
    asked = []

    def time_in_turns(functions, device, rounds, clock):
        asked.append(rounds)
        return {name: [1.0 if rounds > 2 else 1.0 + i] * rounds for i, name in enumerate(functions)}

    monkeypatch.setattr(grid, 'time_in_turns', time_in_turns)
    monkeypatch.setattr(grid, '_chosen', lambda *_: str(costs.cheapest('convolve', PROBLEM)))
    row = grid.measure(PROBLEM, 'cpu', rounds=2)
    assert asked.count(6) >= 1 and all(ms == 1 for ms in row['ms']['forward'].values())


def test_a_way_that_gains_less_than_its_call_costs_is_not_missed():
    row = dict(ms=dict(forward={'torch': 0.03, 'a way': 0.02}), chosen=dict(forward='torch'))
    assert grid.speed(row, 'forward') == (1, 'torch')
