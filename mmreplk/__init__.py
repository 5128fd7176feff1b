"""Large-kernel ConvNets for dense prediction, and the depthwise convolution that they need."""

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
