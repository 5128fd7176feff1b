import subprocess
import sys

import pytest

COUNTED = """
import resource, sys
import torch
from mmreplk.allocator import keep_freed_memory
if sys.argv[1] == 'kept' and not keep_freed_memory():
    print('not taken')
    raise SystemExit
for _ in range(5):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kept):
    run = subprocess.run([sys.executable, '-c', COUNTED, kept], capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_freed_memory_is_used_again():
    kept = faults('kept')
    if kept == 'not taken':
        pytest.skip('the C library has no mallopt')
    assert 4 * int(kept) < int(faults('given back'))  # of five maps: not more than one is in new memory
