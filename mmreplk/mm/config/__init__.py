from .errors import config_errors
from .load import load_config
from .options import add_cfg_options, add_launcher
from .testing import prepare_testing
from .training import prepare_training

__all__ = ['add_cfg_options', 'add_launcher', 'config_errors', 'load_config', 'prepare_testing', 'prepare_training']
