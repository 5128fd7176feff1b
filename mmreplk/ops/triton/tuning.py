"""Which tile is fastest on this GPU: measured once for a class of problems, if asked (:mod:`mmreplk.ops.tuning`).

Off by default: the first candidate is taken then. ``triton.autotune`` cannot do it, because the tape is cut by the same
tile as the kernel that reads it.
"""

import functools
import logging
import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from triton.testing import do_bench

from .. import tuning
from . import trial

Tile = TypeVar('Tile', bound=tuple)
# How far the results of two tiles, which add the same products in another order, may differ, relative to the largest.
TOLERANCE = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 2e-2}
# This process's, by device and question: to look in the file's takes as long as a launch.
_answers: dict[tuple, tuple] = {}


def best(kernel: str, problem: tuple, x: Tensor, candidates: list[Tile], launch: Callable[[Tile], Tensor]) -> Tile:
    """Returns the candidate whose ``launch`` is fastest; the first one where tuning is off.

    Args:
        kernel: Name of the pass.
        problem: What the choice depends on, besides the dtype of ``x`` and the GPU that it is on; N, C, H and W first.
        x: The input.
        candidates: Tiles to try, the default first. Others that fail to compile or to run, or whose result differs from
            that of the default, are skipped; so are all with descriptors where these do not work.
        launch: Runs the pass with a tile and returns its result.
    """
    if not tuning.is_enabled() or not x.is_cuda:
        return candidates[0]
    n, c, h, w, *rest = problem
    question = kernel, tuning.size_class(n), c, tuning.size_class(h), tuning.size_class(w), *rest, x.dtype
    if _answers.get((x.device, question)) not in candidates:
        if (answer := _answer(kernel, ' '.join(map(str, question)), x, candidates, launch)) is None:
            return candidates[0]
        _answers[x.device, question] = answer
    return _answers[x.device, question]


def _answer(kernel: str, question: str, x: Tensor, candidates: list[Tile],
            launch: Callable[[Tile], Tensor]) -> Tile | None:
    """Returns what is remembered or measured; None where nothing is, and nothing can be measured now."""
    device, by_text = torch.cuda.get_device_name(x.device), {str(tuple(tile)): tile for tile in candidates}
    answer = tuning.remembered(device, question)
    if answer not in by_text:
        if torch.cuda.is_current_stream_capturing():
            return None
        if any(tile.descriptors for tile in candidates) and not trial.works(kernel, x.device):
            by_text = {text: tile for text, tile in by_text.items() if not tile.descriptors}
        runs = {text: functools.partial(launch, tile) for text, tile in by_text.items()}
        measure = functools.partial(_time, kernel, launch(candidates[0]), TOLERANCE[x.dtype])
        answer = tuning.fastest(device, question, str(tuple(candidates[0])), runs, measure)
    return by_text[answer]


def _time(kernel: str, expected: Tensor, tolerance: float, run: functools.partial) -> float:
    """Returns the milliseconds of a tile, infinity if it cannot be trusted."""
    largest = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    try:
        difference = ((run() - expected).abs().max() / largest).item()
        if not difference <= tolerance:
            raise ArithmeticError(f'its result differs from the default by {difference:.1e} of the largest value')
        return _milliseconds(run)
    except Exception as error:  # Compilers and drivers raise what they like.
        tile, = run.args
        logging.getLogger('mmreplk').warning(
            f'{kernel} is not run with the tile {tuple(tile)}: {type(error).__name__}: {error}'.splitlines()[0])
        return math.inf


def _milliseconds(run: Callable[[], Tensor]) -> float:
    return do_bench(run, warmup=5, rep=20, return_mode='median')
