from .coco_file import check_coco
from .dataset import check_split
from .label_maps import check_segmentation
from .preflight import check_before_testing, check_before_training, check_data

__all__ = [
    'check_before_testing', 'check_before_training', 'check_coco', 'check_data', 'check_segmentation',
    'check_split'
]
