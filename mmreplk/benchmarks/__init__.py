from .flops import count_flops
from .kept import Kept
from .measure import environment, time_in_turns
from .tables import benchmark_tables

__all__ = ['Kept', 'benchmark_tables', 'count_flops', 'environment', 'time_in_turns']
