"""What needs MMEngine and MMCV: importing it registers backbones, hooks and the like in MMEngine's root registries.

Configs of MMSegmentation and MMDetection find them there; mmseg and mmdet themselves are not imported.

Raises:
    ImportError: If MMEngine or MMCV is not installed.
"""

from . import required  # noqa: I001, F401  first: says what is missing
from . import logs
from .checkpoints import AtomicLocalBackend
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
from .optim import CPUAmpOptimWrapper, RepLKNetLayerDecayConstructor

__all__ = [
    'AtomicLocalBackend', 'BackboneWeightsHook', 'CPUAmpOptimWrapper', 'CheckDataHook', 'ExactResumeHook',
    'NonFiniteHook', 'PeakMemoryHook', 'RepLKNetLayerDecayConstructor', 'ReparamHook', 'SafeCheckpointHook',
    'StrictLoadHook'
]

logs.attach()
