"""Whether kernels with tensor descriptors work on this GPU: tried once, in a process of its own.

A wrong descriptor may make a kernel wait forever or leave a GPU that the process can use no more, which nobody should
meet in a training.
"""

import logging
import os
import subprocess
import sys

import torch
import triton

from .. import tuning

SECONDS = 120  # a start of PyTorch and a dozen compilations
WORKS = 'works'
# (N, C, H, W, K): several blocks of columns, rows that are padded to whole stacks, and a map in one block.
SHAPES = [(3, 5, 43, 72, 31), (5, 3, 32, 32, 13)]


def works(kernel: str, device: torch.device) -> bool:
    """Returns whether the pass ``kernel`` gives the same result with descriptors; if not, logs why, once for a GPU."""
    name, question = torch.cuda.get_device_name(device), f'{kernel} with descriptors, Triton {triton.__version__}'
    answer = tuning.remembered(name, question)
    if answer is None:
        answer = _try(kernel, device)
        tuning.remember(name, question, answer)
        if answer != WORKS:
            logging.getLogger('mmreplk').warning(f'{kernel} is not run with tensor descriptors: {answer}')
    return answer == WORKS


def _try(kernel: str, device: torch.device) -> str:
    index = torch.cuda.current_device() if device.index is None else device.index
    environment = dict(os.environ, MMREPLK_AUTOTUNE='0', PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    try:
        run = subprocess.run([sys.executable, '-c', f'import {__name__} as t; t.main({kernel!r}, "cuda:{index}")'],
                             env=environment, timeout=SECONDS, capture_output=True, text=True, errors='replace')
    except subprocess.TimeoutExpired:
        return f'it did not end within {SECONDS} s'
    except OSError as error:
        return f'no process can be started to try it: {error}'
    said = run.stderr.strip().splitlines() or ['nothing']
    return WORKS if run.returncode == 0 else f'its trial ended with {run.returncode}: {said[-1]}'


def main(kernel: str, device: str) -> None:
    """Compares all tiles with descriptors of the pass ``kernel`` with the default tile.

    Raises:
        AssertionError: If one gives another result, or there is none.
    """
    from . import forward, grad_weight
    from . import tuning as tiles
    tried: list[tuple] = []

    def best(kernel, problem, x, candidates, launch):
        expected, tolerance = launch(candidates[0]).float(), 2 * tiles.TOLERANCE[x.dtype]
        for tile in [tile for tile in candidates if tile.descriptors]:
            error = (launch(tile).float() - expected).abs().max() / expected.abs().max()
            assert error <= tolerance, f'{tuple(tile)} is off by {error:.1e}'
            tried.append(tile)
        return candidates[0]

    tiles.best = best
    torch.manual_seed(0)
    for (n, c, h, w, k), dtype in zip(SHAPES, (torch.bfloat16, torch.float16), strict=True):
        x, grad = (torch.randn(n, c, h, w, device=device, dtype=dtype) for _ in range(2))
        if kernel == 'forward':
            forward(x, torch.randn(c, 1, k, k, device=device, dtype=dtype))
        else:
            grad_weight(x, grad, (k, k))
    assert tried, 'there is no tile with descriptors'
