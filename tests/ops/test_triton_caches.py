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
def expansions(monkeypatch):
    """Empties the cache and returns the list of what is expanded from now on."""
    expanded = []

    def expand(weight, *shape):
        expanded.append(shape)
        return torch.empty(1)

    monkeypatch.setattr(toeplitz, '_expand', expand)
    monkeypatch.setattr(toeplitz, '_cache', type(toeplitz._cache)())
    return expanded


def test_a_tape_is_kept_while_its_filter_stays_as_it_is(expansions):
    weight = torch.randn(2, 1, 31, 31)
    first = toeplitz.tape(weight, torch.bfloat16, GEOMETRY, False, False)
    assert toeplitz.tape(weight, torch.bfloat16, GEOMETRY, False, False) is first
    assert toeplitz.tape(weight, torch.bfloat16, GEOMETRY, True, False) is not first
    assert len(expansions) == 2
    weight.mul_(2)
    assert toeplitz.tape(weight, torch.bfloat16, GEOMETRY, False, False) is not first
    toeplitz.tape(weight[:1], torch.bfloat16, GEOMETRY, False, False)
    assert len(expansions) == 4


def test_filters_that_may_change_unseen_are_expanded_every_time(expansions, monkeypatch):
    with torch.inference_mode():
        unversioned = torch.randn(2, 1, 31, 31)
    for weight in torch.randn(2, 1, 31, 31, requires_grad=True), unversioned:
        toeplitz.tape(weight, torch.bfloat16, GEOMETRY, False, False)
        toeplitz.tape(weight, torch.bfloat16, GEOMETRY, False, False)
    monkeypatch.setattr(toeplitz, '_is_capturing', lambda weight: True)
    toeplitz.tape(torch.randn(2, 1, 31, 31), torch.bfloat16, GEOMETRY, False, False)
    assert len(expansions) == 5 and not toeplitz._cache


def test_tapes_go_with_their_filters_and_are_bounded(expansions):
    weights = [torch.randn(1, 1, 31, 31) for _ in range(toeplitz.CACHED + 3)]
    for weight in weights:
        toeplitz.tape(weight, torch.bfloat16, GEOMETRY, False, False)
    assert len(toeplitz._cache) == toeplitz.CACHED
    del weight, weights
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
