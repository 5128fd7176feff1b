"""Large-kernel ConvNets for dense prediction in MMSegmentation and MMDetection.

Importing this package registers ``RepLKNet``, ``ReparamHook`` and their companions in MMEngine's root registries,
where configs of either framework find them: ``custom_imports = dict(imports=['mmreplk'])``.
"""

from .engine import AtomicLocalBackend, CPUAmpOptimWrapper, RepLKNetLayerDecayConstructor
from .errors import InputError
from .hooks import (
    BackboneWeightsHook,
    CheckDataHook,
    ExactResumeHook,
    NonFiniteHook,
    PeakMemoryHook,
    ReparamHook,
    SafeCheckpointHook,
    StrictLoadHook,
)
from .models import LargeKernelMobileNetV2, ReparamLargeKernelConv, RepLKNet, reparameterized
from .ops import depthwise_conv2d
from .version import __version__

__all__ = [
    'AtomicLocalBackend', 'BackboneWeightsHook', 'CPUAmpOptimWrapper', 'CheckDataHook', 'ExactResumeHook', 'InputError',
    'LargeKernelMobileNetV2', 'NonFiniteHook', 'PeakMemoryHook', 'RepLKNet', 'RepLKNetLayerDecayConstructor',
    'ReparamHook', 'ReparamLargeKernelConv', 'SafeCheckpointHook', 'StrictLoadHook', '__version__', 'depthwise_conv2d',
    'reparameterized'
]
