from .mini_ade20k import CLASS_NAMES, make_mini_ade20k

__all__ = ['CLASS_NAMES', 'make_mini_ade20k']
