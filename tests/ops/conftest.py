import pytest

from mmreplk.ops import cpu


@pytest.fixture
def fast_path_for_small_maps(monkeypatch):
    """Tests are small, and are to test the fast path."""
    monkeypatch.setattr(cpu, 'SMALLEST_WORK', {False: 0, True: 0})
