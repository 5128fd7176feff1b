from .flops import count_flops
from .measure import environment, time_in_turns
from .tables import benchmark_tables

__all__ = ['benchmark_tables', 'count_flops', 'environment', 'time_in_turns']
