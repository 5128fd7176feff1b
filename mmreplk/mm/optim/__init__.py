from .amp import CPUAmpOptimWrapper
from .layer_decay import LargeKernelLayerDecayConstructor

__all__ = ['CPUAmpOptimWrapper', 'LargeKernelLayerDecayConstructor']
