from .mini_ade20k import CLASS_NAMES, NEED_SURROUNDINGS, make_mini_ade20k, make_mini_surroundings
from .mini_coco import make_mini_coco

__all__ = ['CLASS_NAMES', 'NEED_SURROUNDINGS', 'make_mini_ade20k', 'make_mini_coco', 'make_mini_surroundings']
