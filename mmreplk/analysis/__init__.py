from .contact_sheet import contact_sheet
from .timing import time_in_turns

__all__ = ['contact_sheet', 'time_in_turns']
