from .flops import count_flops
from .iou import class_iou, count_pixels, difference, mean_iou
from .kept import Kept
from .measure import environment, time_in_turns
from .tables import benchmark_tables

__all__ = [
    'Kept', 'benchmark_tables', 'class_iou', 'count_flops', 'count_pixels', 'difference', 'environment', 'mean_iou',
    'time_in_turns'
]
