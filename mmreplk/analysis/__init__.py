from .contact_sheet import contact_sheet
from .non_finite import first_non_finite
from .timing import time_in_turns

__all__ = ['contact_sheet', 'first_non_finite', 'time_in_turns']
