from .errors import config_errors
from .load import load_config, prepare_training
from .options import add_cfg_options, add_launcher
from .testing import prepare_testing

__all__ = ['add_cfg_options', 'add_launcher', 'config_errors', 'load_config', 'prepare_testing', 'prepare_training']
