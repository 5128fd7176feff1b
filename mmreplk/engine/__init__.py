from .amp import CPUAmpOptimWrapper
from .checkpoints import AtomicLocalBackend, read_checkpoint
from .config import load_config, prepare_testing, prepare_training
from .console import run
from .preflight import check_before_testing, check_before_training
from .resume import find_resumable, is_whole
from .runner import build_runner

__all__ = [
    'AtomicLocalBackend', 'CPUAmpOptimWrapper', 'build_runner', 'check_before_testing', 'check_before_training',
    'find_resumable', 'is_whole', 'load_config', 'prepare_testing', 'prepare_training', 'read_checkpoint', 'run'
]
