from .checkpoints import AtomicLocalBackend, read_checkpoint
from .config import load_config, prepare_testing, prepare_training
from .console import run
from .preflight import check_before_testing, check_before_training, check_data
from .runner import build_empty_model, build_runner

__all__ = [
    'AtomicLocalBackend', 'build_empty_model', 'build_runner', 'check_before_testing', 'check_before_training',
    'check_data', 'load_config', 'prepare_testing', 'prepare_training', 'read_checkpoint', 'run'
]
