from .flops import count_flops
from .iou import count_pixels, difference, mean_iou
from .kept import Kept
from .measure import environment, time_in_turns
from .tables import benchmark_tables

__all__ = [
    'Kept', 'benchmark_tables', 'count_flops', 'count_pixels', 'difference', 'environment', 'mean_iou', 'time_in_turns'
]
