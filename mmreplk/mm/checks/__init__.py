from .dataset import check_coco, check_segmentation, check_split
from .preflight import check_before_testing, check_before_training, check_data

__all__ = [
    'check_before_testing', 'check_before_training', 'check_coco', 'check_data', 'check_segmentation',
    'check_split'
]
