"""timm, which the environments that ``make setup`` makes have in a folder of its own; see requirements/timm.txt."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch

_FOLDER = Path(sys.prefix, 'timm')
_LIBRARY = []  # for as long as the process lives


def _import_torchvision() -> None:
    """The registries have torchvision with operators for CUDA only: they do not load, and it asks for one of them.

    timm uses the part in Python alone, which imports once operators of these names are declared.
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


@pytest.fixture(scope='module')
def timm():
    if str(_FOLDER) not in sys.path:
        sys.path.append(str(_FOLDER))
    if importlib.util.find_spec('timm') is None and not os.environ.get('CI'):  # there, nothing may be skipped
        pytest.skip(f'timm is neither installed nor in {_FOLDER}; see requirements/timm.txt')
    _import_torchvision()
    import timm

    import mmreplk.timm  # noqa: F401
    yield timm
    # Processes that other tests start are to find no torchvision.
    sys.path[:] = [path for path in sys.path if path != str(_FOLDER)]
