import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(importlib.util.find_spec('triton') is None, reason='Triton is not installed')
def test_kernels_in_the_interpreter():
    """Runs ``interpreted_triton.py`` in a process of its own: Triton reads TRITON_INTERPRET when it is imported."""
    tests = Path(__file__).with_name('interpreted_triton.py')
    run = subprocess.run([sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', tests],
                         env=dict(os.environ, TRITON_INTERPRET='1'), capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
