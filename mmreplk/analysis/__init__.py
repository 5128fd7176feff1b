from .contact_sheet import contact_sheet
from .environment import environment
from .timing import time_in_turns

__all__ = ['contact_sheet', 'environment', 'time_in_turns']
