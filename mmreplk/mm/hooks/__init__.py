from .accelerate_hook import AccelerateHook
from .backbone_weights_hook import BackboneWeightsHook
from .check_data_hook import CheckDataHook
from .exact_resume_hook import ExactResumeHook
from .keep_sparsity_hook import KeepSparsityHook
from .non_finite_hook import NonFiniteHook
from .peak_memory_hook import PeakMemoryHook
from .reparam_hook import ReparamHook
from .resume_hook import ResumeHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .sparse_training_hook import SparseTrainingHook
from .strict_load_hook import StrictLoadHook

__all__ = [
    'AccelerateHook', 'BackboneWeightsHook', 'CheckDataHook', 'ExactResumeHook', 'KeepSparsityHook', 'NonFiniteHook',
    'PeakMemoryHook', 'ReparamHook', 'ResumeHook', 'SafeCheckpointHook', 'SparseTrainingHook',
    'StrictLoadHook'
]
