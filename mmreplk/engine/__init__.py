from .amp import CPUAmpOptimWrapper
from .backbone import Backbone, build_backbone
from .checkpoints import AtomicLocalBackend, allow_pickles, read_checkpoint, write_checkpoint
from .config import load_config, prepare_testing, prepare_training
from .config_errors import config_errors
from .console import run
from .conversion import convert, describe
from .deployment import reparameterize_checkpoint
from .layer_decay import RepLKNetLayerDecayConstructor
from .options import add_cfg_options, add_launcher, add_trust_checkpoint
from .preflight import check_before_testing, check_before_training, check_data
from .resume import find_resumable, is_whole
from .runner import build_empty_model, build_runner, close_runner

__all__ = [
    'AtomicLocalBackend', 'Backbone', 'CPUAmpOptimWrapper', 'RepLKNetLayerDecayConstructor', 'add_cfg_options',
    'add_launcher', 'add_trust_checkpoint', 'allow_pickles', 'build_backbone', 'build_empty_model', 'build_runner',
    'check_before_testing', 'check_before_training', 'check_data', 'close_runner', 'config_errors', 'convert',
    'describe', 'find_resumable', 'is_whole', 'load_config', 'prepare_testing', 'prepare_training', 'read_checkpoint',
    'reparameterize_checkpoint', 'run', 'write_checkpoint'
]
