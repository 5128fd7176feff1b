import math

import pytest

from mmreplk.ops import cpu, functional
from mmreplk.ops.cpu import costs


@pytest.fixture
def fast_path_for_small_maps(monkeypatch):
    """Tests are small, and are to test the fast path."""
    monkeypatch.setattr(cpu, 'SMALLEST_WORK', {False: 0, True: 0})
    monkeypatch.setattr(functional, '_PLANS', {})
    monkeypatch.setattr(costs, 'OVERHEAD', -math.inf)
