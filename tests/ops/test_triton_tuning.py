"""What the Triton backend remembers: measured tiles. Launches nothing."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch

if importlib.util.find_spec('triton') is None:
    pytest.skip('Triton is not installed', allow_module_level=True)

from mmreplk.ops.triton import tiles, tuning


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
