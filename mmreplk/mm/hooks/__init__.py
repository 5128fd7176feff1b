from .backbone_weights_hook import BackboneWeightsHook
from .check_data_hook import CheckDataHook
from .exact_resume_hook import ExactResumeHook
from .non_finite_hook import NonFiniteHook
from .peak_memory_hook import PeakMemoryHook
from .reparam_hook import ReparamHook
from .resume_hook import ResumeHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .strict_load_hook import StrictLoadHook

__all__ = [
    'BackboneWeightsHook', 'CheckDataHook', 'ExactResumeHook', 'NonFiniteHook', 'PeakMemoryHook', 'ReparamHook',
    'ResumeHook', 'SafeCheckpointHook', 'StrictLoadHook'
]
