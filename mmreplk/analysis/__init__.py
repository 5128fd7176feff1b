from .contact_sheet import contact_sheet, instance_sheet
from .environment import environment
from .flops import count_flops
from .non_finite import first_non_finite
from .timing import time_in_turns

__all__ = [
    'contact_sheet', 'count_flops', 'environment', 'first_non_finite', 'instance_sheet', 'time_in_turns'
]
