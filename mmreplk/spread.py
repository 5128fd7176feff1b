"""Chooses a few items of many, evenly spread."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar('T')


def evenly_spread(items: Sequence[T], most: int) -> list[T]:
    """Returns at most ``most`` of ``items``, in their order: all, or the first, the last and others evenly between."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(len(items), most)).round().astype(int).tolist()]
