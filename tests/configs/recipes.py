"""The recipes of docs/other_configs.md."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / 'docs/other_configs.md'
RECIPES = {re.search(r"_base_ = '\w+::(\S+?)/", recipe).group(1): recipe
           for recipe in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)}
# 31B's widths, and so its recipes, at a depth that a test can afford.
SHALLOW = dict(large_kernel_sizes=[13, 13, 13, 7], layers=[1, 1, 1, 1], channels=[128, 256, 512, 1024], small_kernel=5)
