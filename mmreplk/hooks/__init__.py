from .backbone_weights_hook import BackboneWeightsHook
from .reparam_hook import ReparamHook
from .strict_load_hook import StrictLoadHook

__all__ = ['BackboneWeightsHook', 'ReparamHook', 'StrictLoadHook']
