from .contact_sheet import contact_sheet, instance_sheet
from .environment import environment
from .flops import count_flops
from .timing import time_in_turns

__all__ = ['contact_sheet', 'count_flops', 'environment', 'instance_sheet', 'time_in_turns']
