"""The operator over a grid of shapes, against PyTorch and, on a CPU, against every way of its own."""

import functools
import itertools
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..ops import cpu, depthwise_conv2d, memory_format
from ..ops.cpu import costs, facts, undilated
from ..ops.cpu.costs import Problem
from .measure import time_in_turns

SQUARES = dict(n=(1, 8), c=(16, 128, 1024), h=(7, 16, 33, 64, 128, 256), k=(3, 5, 7, 9, 11, 13, 15, 21, 31, 51))
STRIPS = dict(n=(1, 8), c=(64, 256), h=(16, 32, 64, 128), k=((51, 5), (5, 51), (49, 5), (5, 49), (1, 19), (19, 1)))
PASSES = ('forward', 'grad_input', 'grad_weight')
LIMIT = 2e9  # useful operations; larger cases take PyTorch more than a few seconds
GOAL = 0.9  # what of the best way's speed is to be reached
# N * C * H * W * KH * KW from which on PyTorch is not waited for on a CPU where it has no compiled kernel, and by how
# much a way may be predicted to be slower than the cheapest to be tried at all.
LIMIT_OF_PYTORCH, HOPELESS = 1e8, 5
Row = dict[str, Any]


def problems(dtypes: Sequence[torch.dtype]) -> Iterator[Problem]:
    """Yields every problem of the grid: squares and strips, in each dtype, contiguous and channels-last."""
    squares = ((n, c, h, (k, k)) for n, c, h, k in itertools.product(*SQUARES.values()))
    for n, c, h, (kh, kw) in itertools.chain(squares, itertools.product(*STRIPS.values())):
        if 2 * n * c * costs.taps_inside(h, kh) * costs.taps_inside(h, kw) <= LIMIT:
            for dtype, channels_last in itertools.product(dtypes, (False, True)):
                yield Problem(n, c, h, h, kh, kw, dtype, channels_last, channels_last)


def measure(problem: Problem, device: str, rounds: int) -> Row:
    """Times the passes of a problem by the operator, by PyTorch and, on a CPU, by each way, in turns.

    Returns:
        The problem and, by pass and name, the median milliseconds.
    """
    n, c, h, w, kh, kw, dtype, channels_last, _ = problem
    x, grad = (memory_format.laid_out(torch.randn(n, c, h, w, device=device, dtype=dtype), channels_last)
               for _ in range(2))
    weight = torch.randn(c, 1, kh, kw, device=device, dtype=dtype) / max(kh, kw)
    row = dict(key(problem), ms={})
    for what in PASSES:
        work = {'mmreplk': _pass(what, depthwise_conv2d, x, weight, grad)}
        is_slow = kw >= (cpu.NARROWEST_GRAD_WEIGHT if what == 'grad_weight' else facts.WIDEST_FORWARD + 1)
        if device != 'cpu' or not is_slow or n * c * h * w * kh * kw < LIMIT_OF_PYTORCH:
            work['torch'] = _pass(what, _torch, x, weight, grad)
        if device == 'cpu' and max(kh, kw) > 1:
            work.update(_ways(what, problem, x, weight, grad))
        row['ms'][what] = {name: round(statistics.median(times), 5)
                           for name, times in time_in_turns(work, device, rounds).items()}  # yapf: disable
    return row


def run(path: Path, dtypes: Sequence[torch.dtype], device: str, rounds: int) -> list[Row]:
    """Measures what of the grid is not in the file yet; each row is written as soon as it is measured.

    Returns:
        All rows of the file.

    Raises:
        InputError: If the file holds something else.
    """
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        done = [{name: row[name] for name in Problem._fields[:8]} for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{str(path)!r} is there and holds no rows of a grid: name another file') from error
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
        for problem in problems(dtypes):
            if key(problem) not in done:
                rows.append(measure(problem, device, rounds))
                file.write(json.dumps(rows[-1]) + '\n')
                file.flush()
    return rows


def key(problem: Problem) -> Row:
    """Returns what tells the rows of a file apart."""
    return dict(zip(Problem._fields[:8], problem[:8], strict=True), dtype=str(problem.dtype).removeprefix('torch.'))


def speed(row: Row, what: str) -> tuple[float, str]:
    """Returns the operator's speed as a share of the best's, PyTorch included, and the name of the best."""
    times = row['ms'][what]
    best = min(times, key=times.get)
    return times[best] / times['mmreplk'], best


def summary(rows: Sequence[Row], worst: int = 5) -> str:
    """Returns, for each pass, dtype and memory format, how often GOAL is reached, and the worst cases."""
    lines = []
    kinds = sorted({(what, row['dtype'], row['channels_last']) for row in rows for what in PASSES})
    for what, dtype, channels_last in kinds:
        own = sorted(((*speed(row, what), row) for row in rows
                      if row['dtype'] == dtype and row['channels_last'] == channels_last), key=lambda item: item[0])
        slow = sum(share < GOAL for share, *_ in own)
        lines.append(f'{what}, {dtype}, {"channels-last" if channels_last else "contiguous"}: below {GOAL} of the best '
                     f'in {slow} of {len(own)} shapes')
        lines += [f'  {share:.2f} {row["n"]},{row["c"]},{row["h"]},{row["kh"]}x{row["kw"]}: the best is {best}'
                  for share, best, row in own[:worst] if share < GOAL]  # yapf: disable
    return '\n'.join(lines)


def _torch(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=(weight.shape[2] // 2, weight.shape[3] // 2), groups=len(weight))


def _pass(what: str, function: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor,
          grad: Tensor) -> Callable[[], object]:
    if what == 'forward':
        return torch.no_grad()(lambda: function(x, weight))
    leaf = (x if what == 'grad_input' else weight).detach().requires_grad_()
    out = function(leaf, weight) if what == 'grad_input' else function(x, leaf)
    return lambda: torch.autograd.grad(out, leaf, grad, retain_graph=True)


def _ways(what: str, problem: Problem, x: Tensor, weight: Tensor, grad: Tensor) -> dict[str, Callable[[], object]]:
    if what == 'grad_weight':
        bound = functools.partial(undilated.grad_weight_by, x=x, grad_output=grad, kernel_size=tuple(weight.shape[2:]))
        ways = {way: costs.cost('grad_weight', problem, way) for way in costs.grad_weight_ways(problem)}
    else:
        operand = x if what == 'forward' else grad
        bound = functools.partial(undilated.convolve_by, x=operand, weight=weight, bias=None, flip=what != 'forward',
                                  channels_last=problem.wants_channels_last)
        ways = {way: costs.cost('convolve', problem, way) for way in costs.convolving_ways(problem)}
    least = min(ways.values())
    return {str(way): torch.no_grad()(functools.partial(bound, way)) for way, cost in ways.items()
            if cost < HOPELESS * least and way.kernel != 'pytorch'}  # yapf: disable
