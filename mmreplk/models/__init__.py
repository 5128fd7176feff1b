from .large_kernel import ReparamLargeKernelConv
from .merging import reparameterized
from .replknet import RepLKNet

__all__ = ['RepLKNet', 'ReparamLargeKernelConv', 'reparameterized']
