from .reparam_hook import ReparamHook
from .strict_load_hook import StrictLoadHook

__all__ = ['ReparamHook', 'StrictLoadHook']
