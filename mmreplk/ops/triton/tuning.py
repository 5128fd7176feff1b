"""Which tile is fastest on this GPU: measured once for a problem, if asked, and remembered on disk.

Off by default, and the first candidate is taken. ``MMREPLK_AUTOTUNE=1`` turns it on; the choices go into
``$MMREPLK_CACHE``, by default ``~/.cache/mmreplk``, one JSON file for each name of a GPU. ``triton.autotune`` cannot do
it, because the tape is cut by the same tile as the kernel that reads it.
"""

import functools
import json
import logging
import math
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from triton.testing import do_bench

Tile = TypeVar('Tile', bound=tuple)
# Of the largest value: what results of two tiles may differ by, which add the same products in another order.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 2e-2}


def best(kernel: str, problem: tuple, x: Tensor, candidates: list[Tile], launch: Callable[[Tile], Tensor]) -> Tile:
    """Returns the candidate whose ``launch`` is fastest; the first one where tuning is off.

    Args:
        kernel: Name of the pass.
        problem: What the choice depends on, besides the dtype of ``x`` and the GPU that it is on.
        x: The input.
        candidates: Tiles to try, the default first. Others that fail to compile or to run, or whose result differs from
            that of the default, are passed over.
        launch: Runs the pass with a tile and returns its result.
    """
    if os.environ.get('MMREPLK_AUTOTUNE') != '1' or not x.is_cuda:
        return candidates[0]
    choices = _choices(_path(x.device))
    question = ' '.join(map(str, (kernel, *problem, x.dtype)))
    by_text = {str(tuple(tile)): tile for tile in candidates}
    # What an older version wrote may no longer be a candidate.
    if choices.get(question) not in by_text:
        if torch.cuda.is_current_stream_capturing():
            return candidates[0]
        times = _times(kernel, candidates, launch, TOLERANCE[x.dtype])
        choices[question] = min(times, key=times.get)
        _write(_path(x.device), {question: choices[question]})
    return by_text[choices[question]]


def _times(kernel: str, candidates: list[Tile], launch: Callable[[Tile], Tensor], tolerance: float) -> dict[str, float]:
    expected, times = launch(candidates[0]), {}
    largest = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    for tile in candidates:
        try:
            difference = ((launch(tile) - expected).abs().max() / largest).item()
            if not difference <= tolerance:
                raise ArithmeticError(f'its result differs from that of {tuple(candidates[0])} by {difference:.1e} of '
                                      'the largest value')
            times[str(tuple(tile))] = _milliseconds(launch, tile)
        except Exception as error:  # Compilers and drivers raise what they like.
            logging.getLogger('mmreplk').warning(
                f'{kernel} is not run with the tile {tuple(tile)}: {type(error).__name__}: {error}'.splitlines()[0])
            times[str(tuple(tile))] = math.inf
    return times


def _milliseconds(launch: Callable[[Tile], Tensor], tile: Tile) -> float:
    return do_bench(lambda: launch(tile), warmup=5, rep=20, return_mode='median')


def _path(device: torch.device) -> Path:
    name = torch.cuda.get_device_name(device).replace(' ', '_').replace('/', '_')
    return Path(os.environ.get('MMREPLK_CACHE', '~/.cache/mmreplk')).expanduser() / f'{name}.json'


@functools.cache
def _choices(path: Path) -> dict[str, str]:
    return _read(path)


def _read(path: Path) -> dict[str, str]:
    return json.loads(path.read_text()) if path.exists() else {}


def _write(path: Path, choices: dict[str, str]) -> None:
    """Adds to the file, which other processes write too: the last one wins, and none reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f'.{os.getpid()}-{threading.get_ident()}')
    unfinished.write_text(json.dumps(_read(path) | choices, indent=1, sort_keys=True))
    unfinished.replace(path)
