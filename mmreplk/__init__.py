"""Large-kernel ConvNets for dense prediction, in PyTorch and in MMSegmentation and MMDetection.

Importing this package gives the parts that need only PyTorch: the networks, their layers and the depthwise convolution.
Where MMEngine and MMCV are installed, it also registers the networks, ``ReparamHook`` and the other parts for MM in
MMEngine's root registries, where configs of either framework find them: ``custom_imports = dict(imports=['mmreplk'])``.
"""

import importlib.util
import warnings

from . import required  # noqa: F401  first: says which PyTorch is needed
from .acceleration import accelerate, restore
from .errors import InputError
from .layers import LargeKernelConv2d, ReparamLargeKernelConv
from .merging import reparameterize, reparameterized
from .networks import RepLKNet, SLaK, UniRepLKNet
from .ops import depthwise_conv2d
from .stand_in import stand_in_path
from .version import __version__

__all__ = [
    'InputError', 'LargeKernelConv2d', 'RepLKNet', 'ReparamLargeKernelConv', 'SLaK', 'UniRepLKNet', '__version__',
    'accelerate', 'depthwise_conv2d', 'reparameterize', 'reparameterized', 'restore', 'stand_in_path'
]

_missing = [name for name in ('mmengine', 'mmcv') if importlib.util.find_spec(name) is None]
if not _missing:
    from . import mm  # noqa: F401  registers
elif len(_missing) == 1:
    warnings.warn(
        f'mmreplk registers nothing in MMEngine: {_missing[0]} is not installed, see requirements/', stacklevel=2)
