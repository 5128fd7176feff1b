"""All that needs MMEngine and MMCV. Importing it registers backbones, hooks and the rest in MMEngine's root registries.

Configs of MMSegmentation and MMDetection find them there; mmseg and mmdet themselves are not imported.

Raises:
    ImportError: If MMEngine or MMCV is not installed.
"""

from . import required  # noqa: I001, F401  first: says what is missing
from . import checkpoint_loader, conv_module, internals, logs, upernet  # noqa: F401
from .backbones import RepLKNet, SLaK, UniRepLKNet
from .checkpoints import AtomicLocalBackend
from .hooks import (
    AccelerateHook,
    BackboneWeightsHook,
    CheckDataHook,
    ExactResumeHook,
    KeepSparsityHook,
    NonFiniteHook,
    PeakMemoryHook,
    ReparamHook,
    ResumeHook,
    SafeCheckpointHook,
    SparseTrainingHook,
    StrictLoadHook,
)
from .mobilenet_v2 import LargeKernelMobileNetV2
from .optim import CPUAmpOptimWrapper, LargeKernelLayerDecayConstructor

__all__ = [
    'AccelerateHook', 'AtomicLocalBackend', 'BackboneWeightsHook', 'CPUAmpOptimWrapper', 'CheckDataHook',
    'ExactResumeHook', 'KeepSparsityHook', 'LargeKernelLayerDecayConstructor', 'LargeKernelMobileNetV2',
    'NonFiniteHook', 'PeakMemoryHook', 'RepLKNet', 'ReparamHook', 'ResumeHook', 'SLaK', 'SafeCheckpointHook',
    'SparseTrainingHook', 'StrictLoadHook', 'UniRepLKNet'
]

logs.attach()
internals.find_shipped_configs()
