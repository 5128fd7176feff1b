"""timm and MMPretrain, which ``make setup`` installs in a folder of their own; see requirements/torchvision.txt."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

_FOLDER = Path(sys.prefix, 'torchvision')
_LIBRARY = []  # for as long as the process lives


@contextmanager
def findable(package: str) -> Iterator[None]:
    """Lets this process import ``package`` and what it needs, or skips the test."""
    if str(_FOLDER) not in sys.path:
        sys.path.append(str(_FOLDER))
    try:
        if importlib.util.find_spec(package) is None and not os.environ.get('CI'):  # there, nothing may be skipped
            pytest.skip(f'{package} is neither installed nor in {_FOLDER}; see requirements/torchvision.txt')
        _import_torchvision()
        yield
    finally:
        # Processes that other tests start are to find no torchvision.
        sys.path[:] = [path for path in sys.path if path != str(_FOLDER)]


def import_mmpretrain() -> None:
    """Registers the networks of MMPretrain, for configs that take ConvNeXt from it."""
    with findable('mmpretrain'):
        importlib.import_module('mmpretrain.models')


def _import_torchvision() -> None:
    """The registries have torchvision with operators for CUDA only: they do not load, and it asks for one of them.

    What is used is the part in Python alone, which imports once operators of these names are declared.
    """
    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition('.')[0] == 'torchvision']:
            del sys.modules[name]
        _LIBRARY.append(torch.library.Library('torchvision', 'FRAGMENT'))
        for name in ('nms', 'qnms'):
            _LIBRARY[0].define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        import torchvision  # noqa: F401
