from .large_kernel import ReparamLargeKernelConv, reparameterized
from .replknet import RepLKNet

__all__ = ['RepLKNet', 'ReparamLargeKernelConv', 'reparameterized']
