from .large_kernel import ReparamLargeKernelConv
from .merging import reparameterize, reparameterized
from .mobilenet_v2 import LargeKernelMobileNetV2
from .replknet import RepLKNet

__all__ = ['LargeKernelMobileNetV2', 'RepLKNet', 'ReparamLargeKernelConv', 'reparameterize', 'reparameterized']
