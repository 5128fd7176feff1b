from .amp import CPUAmpOptimWrapper
from .layer_decay import RepLKNetLayerDecayConstructor

__all__ = ['CPUAmpOptimWrapper', 'RepLKNetLayerDecayConstructor']
