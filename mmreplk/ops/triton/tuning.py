"""Which tile is fastest on this GPU: measured once for a shape, if asked, and remembered on disk.

Off by default, and the first candidate is taken. ``MMREPLK_AUTOTUNE=1`` turns it on; the answers go into
``$MMREPLK_CACHE``, by default ``~/.cache/mmreplk``, one JSON file for each name of a GPU. ``triton.autotune`` cannot do
it, because the tape is cut by the same tile as the kernel that reads it.
"""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from triton.runtime.errors import OutOfResources, PTXASError
from triton.testing import do_bench

Tile = TypeVar('Tile', bound=tuple)


def best(kernel: str, problem: tuple, x: Tensor, candidates: list[Tile], launch: Callable[[Tile], Any]) -> Tile:
    """Returns the candidate whose ``launch`` is fastest; the first one where tuning is off.

    Args:
        kernel: Name of the pass.
        problem: What, besides the shape and dtype of ``x``, the answer depends on.
        x: The input ``(N, C, H, W)``.
        candidates: Tiles to try, the default first; those that the GPU or the compiler refuses are passed over.
        launch: Runs the pass with a tile.
    """
    if os.environ.get('MMREPLK_AUTOTUNE') != '1' or not x.is_cuda:
        return candidates[0]
    answers = _answers(_path(x.device))
    question = ' '.join(map(str, (kernel, *x.shape, x.dtype, *problem)))
    by_text = {str(tuple(tile)): tile for tile in candidates}
    # What an older version wrote may no longer be a candidate.
    if answers.get(question) not in by_text:
        if torch.cuda.is_current_stream_capturing():
            return candidates[0]
        times = {text: _milliseconds(launch, tile) for text, tile in by_text.items()}
        answers[question] = min(times, key=times.get)
        _write(_path(x.device), {question: answers[question]})
    return by_text[answers[question]]


def _milliseconds(launch: Callable[[Tile], Any], tile: Tile) -> float:
    try:
        return do_bench(lambda: launch(tile), return_mode='median')
    except (OutOfResources, PTXASError):
        return float('inf')


def _path(device: torch.device) -> Path:
    name = torch.cuda.get_device_name(device).replace(' ', '_').replace('/', '_')
    return Path(os.environ.get('MMREPLK_CACHE', '~/.cache/mmreplk')).expanduser() / f'{name}.json'


@functools.cache
def _answers(path: Path) -> dict[str, str]:
    return _read(path)


def _read(path: Path) -> dict[str, str]:
    return json.loads(path.read_text()) if path.exists() else {}


def _write(path: Path, answers: dict[str, str]) -> None:
    """Adds to the file, which other processes write too: the last one wins, and none reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f'.{os.getpid()}')
    unfinished.write_text(json.dumps(_read(path) | answers, indent=1, sort_keys=True))
    unfinished.replace(path)
