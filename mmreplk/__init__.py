"""Large-kernel ConvNets for dense prediction, in PyTorch and in MMSegmentation and MMDetection.

Importing this package gives what needs PyTorch alone: the networks, their layers, and the depthwise convolution. Where
MMEngine and MMCV are installed, it also registers the networks, ``ReparamHook`` and their companions in MMEngine's root
registries, where configs of either framework find them: ``custom_imports = dict(imports=['mmreplk'])``.
"""

import importlib.util
import warnings

from .errors import InputError
from .layers import LargeKernelConv2d, ReparamLargeKernelConv
from .merging import reparameterize, reparameterized
from .networks import RepLKNet, SLaK, UniRepLKNet
from .ops import depthwise_conv2d
from .version import __version__

__all__ = [
    'InputError', 'LargeKernelConv2d', 'RepLKNet', 'ReparamLargeKernelConv', 'SLaK', 'UniRepLKNet', '__version__',
    'depthwise_conv2d', 'reparameterize', 'reparameterized'
]

_missing = [name for name in ('mmengine', 'mmcv') if importlib.util.find_spec(name) is None]
if not _missing:
    from . import mm  # noqa: F401  registers
elif len(_missing) == 1:
    warnings.warn(f'mmreplk registers nothing in MMEngine: there is no {_missing[0]}, see requirements/', stacklevel=2)
