from .benchmark_page import benchmark_tables
from .contact_sheet import contact_sheet, instance_row, instance_sheet, label_row
from .environment import environment
from .flops import count_flops
from .non_finite import first_non_finite
from .timing import time_in_turns

__all__ = [
    'benchmark_tables', 'contact_sheet', 'count_flops', 'environment', 'first_non_finite', 'instance_row',
    'instance_sheet', 'label_row', 'time_in_turns'
]
