"""What the Triton backend remembers: expanded filters and measured tiles. Launches nothing."""

import gc
import importlib.util
from types import SimpleNamespace

import pytest
import torch

if importlib.util.find_spec('triton') is None:
    pytest.skip('Triton is not installed', allow_module_level=True)

from mmreplk.ops.triton import tiles, toeplitz, tuning

TILE = tiles.ForwardTile(16, 8, 16, 64, 4, 3)
GEOMETRY = toeplitz.geometry(31, tiles.window(64, 31, TILE.block_x), TILE)


@pytest.fixture
def calls(monkeypatch):
    """Empties the cache and returns the list of what is done about tapes from now on."""
    done = []

    def expand(*_):
        done.append('expanded')
        return torch.empty(1)

    monkeypatch.setattr(toeplitz, '_expand', expand)
    monkeypatch.setattr(toeplitz, '_update', lambda *_: done.append('compared'))
    monkeypatch.setattr(toeplitz, '_cache', {})
    return done


def tape(weight, flip=False, keep=True):
    return toeplitz.tape(weight, torch.bfloat16, GEOMETRY, flip, False, keep)


def test_a_tape_is_kept_while_its_frozen_filter_stays_as_it_is(calls):
    weight = torch.randn(2, 1, 31, 31)
    first = tape(weight)
    assert tape(weight) is first and tape(weight, flip=True) is not first
    assert calls == ['expanded'] * 2
    weight.mul_(2)
    assert tape(weight) is not first
    tape(weight[:1])
    assert calls == ['expanded'] * 4
    with torch.inference_mode():
        second = tape(weight)
        assert tape(weight) is second
        weight.mul_(2)
        assert tape(weight) is not second


def test_filters_that_may_change_unseen_are_compared(calls):
    with torch.inference_mode():
        unversioned = torch.randn(2, 1, 31, 31)
    for weight in torch.randn(2, 1, 31, 31, requires_grad=True), unversioned:
        calls.clear()
        first = tape(weight)
        assert tape(weight) is first and calls == ['expanded', 'compared']
    # The tape of a filter that trained says nothing about it once it is frozen.
    trained = torch.randn(2, 1, 31, 31, requires_grad=True)
    first = tape(trained)
    assert tape(trained.requires_grad_(False)) is not first


def test_nothing_is_kept_in_training_or_while_a_graph_is_captured(calls, monkeypatch):
    weight = torch.randn(2, 1, 31, 31)
    for _ in range(2):
        tape(weight, keep=False)
    monkeypatch.setattr(toeplitz, '_is_capturing', lambda weight: True)
    tape(weight)
    assert calls == ['expanded'] * 3 and not toeplitz._cache


def test_tapes_go_with_their_filters_and_are_bounded(calls):
    weights = [torch.randn(1, 1, 31, 31) for _ in range(toeplitz.CACHED + 3)]
    tapes = [tape(weight) for weight in weights]
    assert len(toeplitz._cache) == toeplitz.CACHED
    assert tape(weights[-1]) is tapes[-1] and tape(weights[0]) is not tapes[0]
    del weights
    gc.collect()
    assert not toeplitz._cache


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A stand-in for a CUDA tensor, with tuning on and its answers in a folder of the test's."""
    monkeypatch.setenv('MMREPLK_AUTOTUNE', '1')
    monkeypatch.setenv('MMREPLK_CACHE', str(tmp_path))
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda device: 'A GPU')
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)
    monkeypatch.setattr(tuning, '_milliseconds', lambda launch, tile: launch(tile))
    tuning._answers.cache_clear()
    return SimpleNamespace(is_cuda=True, shape=(1, 2, 40, 40), dtype=torch.bfloat16, device='cuda:0')


def test_the_fastest_tile_is_measured_once_and_remembered_on_disk(gpu, tmp_path):
    candidates, timed = tiles.forward_tiles(40, 40, 2, 'tf32'), []

    def launch(tile):
        timed.append(tile)
        return -tile.num_stages - tile.block_k

    best = tuning.best('forward', (31, 31), gpu, candidates, launch)
    assert best == candidates[1] and len(timed) == len(set(candidates))
    tuning._answers.cache_clear()
    assert tuning.best('forward', (31, 31), gpu, candidates, launch) == best and len(timed) == len(set(candidates))
    assert [path.name for path in tmp_path.iterdir()] == ['A_GPU.json']
    # Another version of the package, whose candidates are others, measures again.
    assert tuning.best('forward', (31, 31), gpu, candidates[2:], launch) in candidates[2:]


def test_nothing_is_measured_during_capture_or_where_tuning_is_off(gpu, monkeypatch):
    candidates = tiles.forward_tiles(40, 40, 2, 'tf32')

    def best():
        return tuning.best('forward', (31, 31), gpu, candidates, lambda tile: pytest.fail('measured'))

    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: True)
    assert best() == candidates[0]
    monkeypatch.setenv('MMREPLK_AUTOTUNE', '0')
    assert best() == candidates[0]
