"""Large-kernel ConvNets for dense prediction, in PyTorch and in MMSegmentation and MMDetection.

Where MMEngine and MMCV are installed, importing this package registers ``RepLKNet``, ``ReparamHook`` and their
companions in MMEngine's root registries, where configs of either framework find them:
``custom_imports = dict(imports=['mmreplk'])``. Where neither is, what needs PyTorch alone works.
"""

import importlib.util
import warnings

from .errors import InputError
from .ops import depthwise_conv2d
from .version import __version__

__all__ = ['InputError', '__version__', 'depthwise_conv2d']

_missing = [name for name in ('mmengine', 'mmcv') if importlib.util.find_spec(name) is None]
if not _missing:
    from .mm import (
        AtomicLocalBackend,
        BackboneWeightsHook,
        CheckDataHook,
        CPUAmpOptimWrapper,
        ExactResumeHook,
        NonFiniteHook,
        PeakMemoryHook,
        ReparamHook,
        RepLKNetLayerDecayConstructor,
        SafeCheckpointHook,
        StrictLoadHook,
    )
    from .models import LargeKernelMobileNetV2, ReparamLargeKernelConv, RepLKNet, reparameterized

    __all__ += [
        'AtomicLocalBackend', 'BackboneWeightsHook', 'CPUAmpOptimWrapper', 'CheckDataHook', 'ExactResumeHook',
        'LargeKernelMobileNetV2', 'NonFiniteHook', 'PeakMemoryHook', 'RepLKNet', 'RepLKNetLayerDecayConstructor',
        'ReparamHook', 'ReparamLargeKernelConv', 'SafeCheckpointHook', 'StrictLoadHook', 'reparameterized'
    ]
elif len(_missing) == 1:
    warnings.warn(f'mmreplk registers nothing in MMEngine: there is no {_missing[0]}, see requirements/', stacklevel=2)
