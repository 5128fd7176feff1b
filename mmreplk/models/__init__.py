from .large_kernel import ReparamLargeKernelConv
from .merging import reparameterize, reparameterized
from .replknet import RepLKNet

__all__ = ['RepLKNet', 'ReparamLargeKernelConv', 'reparameterize', 'reparameterized']
