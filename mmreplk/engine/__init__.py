from .checkpoints import AtomicLocalBackend, read_checkpoint
from .config import load_config, prepare_testing, prepare_training
from .console import run
from .preflight import check_before_testing, check_before_training
from .runner import build_runner

__all__ = [
    'AtomicLocalBackend', 'build_runner', 'check_before_testing', 'check_before_training', 'load_config',
    'prepare_testing', 'prepare_training', 'read_checkpoint', 'run'
]
