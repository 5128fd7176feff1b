"""Times the operator over a grid of shapes against PyTorch and, on a CPU, against each of its own ways."""

import functools
import itertools
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..ops import cpu, depthwise_conv2d, functional, memory_format
from ..ops.cpu import costs, facts, same, ways
from ..ops.cpu.ways import Problem, Way
from .measure import time_in_turns

SQUARES = dict(n=(1, 8), c=(16, 128, 1024), h=(7, 16, 33, 64, 128, 256), k=(3, 5, 7, 9, 11, 13, 15, 21, 31, 51))
STRIPS = dict(n=(1, 8), c=(64, 256), h=(16, 32, 64, 128), k=((51, 5), (5, 51), (49, 5), (5, 49), (1, 19), (19, 1)))
DILATED = dict(n=(1, 8), c=(64, 256), h=(14, 28, 56), k=(3, 5, 7, 9), d=(2, 3, 5, 7))
PASSES = ('forward', 'grad_input', 'grad_weight')
LIMIT = 2e9  # useful operations; larger cases take PyTorch more than a few seconds
GOAL = 0.9  # the share of the best way's speed to reach
# From this N * C * H * W * KH * KW on, PyTorch is timed on a CPU only where it has a compiled kernel or the operator
# takes it. Ways that are predicted to be so many times slower than the cheapest are not timed either.
LIMIT_OF_PYTORCH, HOPELESS = 1e8, 5
Row = dict[str, Any]
KEYS = tuple(name for name in Problem._fields if name != 'wants_channels_last')


def problems(dtypes: Sequence[torch.dtype]) -> Iterator[Problem]:
    """Yields every problem of the grid: squares, strips and dilated kernels, in each dtype and memory format."""
    squares = ((n, c, h, (k, k), 1) for n, c, h, k in itertools.product(*SQUARES.values()))
    strips = ((*sizes, 1) for sizes in itertools.product(*STRIPS.values()))
    dilated_ = ((n, c, h, (k, k), d) for n, c, h, k, d in itertools.product(*DILATED.values()))
    for n, c, h, (kh, kw), d in itertools.chain(squares, strips, dilated_):
        if 2 * n * c * costs.taps_inside(h, kh, d) * costs.taps_inside(h, kw, d) <= LIMIT:
            for dtype, channels_last in itertools.product(dtypes, (False, True)):
                yield Problem(n, c, h, h, kh, kw, dtype, channels_last, channels_last, d, d)


def measure(problem: Problem, device: str, rounds: int) -> Row:
    """Times the passes of a problem by the operator, by PyTorch and, on a CPU, by each way, in turns.

    Returns:
        The problem; in ``ms``, by pass and name, the least milliseconds of PyTorch's pass and of each way, without
        the cost of calling the operator; in ``chosen``, by pass, which one the operator takes; in ``calls``, by pass
        and name, the milliseconds of the operator and of PyTorch's convolution as they are called, autograd included.
    """
    n, c, h, w, kh, kw, dtype, channels_last, _, dy, dx = problem
    x, grad = (memory_format.laid_out(torch.randn(n, c, h, w, device=device, dtype=dtype), channels_last)
               for _ in range(2))
    weight = torch.randn(c, 1, kh, kw, device=device, dtype=dtype) / max(kh, kw)
    extent = dx * (kw - 1) + 1
    clock = time.thread_time if device == 'cpu' and torch.get_num_threads() == 1 else time.perf_counter
    row = dict(key(problem), ms={}, chosen={}, calls={})
    for what in PASSES:
        own = functools.partial(depthwise_conv2d, dilation=(dy, dx))
        theirs = functools.partial(F.conv2d, padding=(dy * (kh // 2), dx * (kw // 2)), dilation=(dy, dx), groups=c)
        calls = {'mmreplk': _pass(what, own, x, weight, grad)}
        work, ways = {}, _ways(what, problem, x, weight, grad) if device == 'cpu' and max(kh, kw) > 1 else {}
        is_slow = extent >= (cpu.NARROWEST_GRAD_WEIGHT if what == 'grad_weight' else facts.WIDEST_FORWARD + 1)
        row['chosen'][what] = _chosen(what, problem, x, weight, grad)
        is_timed = device != 'cpu' or not is_slow or n * c * h * w * kh * kw < LIMIT_OF_PYTORCH
        if is_timed or row['chosen'][what] == 'torch':
            calls['torch'] = _pass(what, theirs, x, weight, grad)
            work['torch'] = _pytorchs(what, problem, x, weight, grad)
        work.update(ways)
        row['ms'][what], row['calls'][what] = (_least(functions, device, rounds, clock) for functions in (work, calls))
        if _has_ways(row, what) and speed(row, what)[0] < GOAL:  # by chance, it may be: more rounds for each of them
            again = _least(work, device, 3 * rounds, clock)
            row['ms'][what] = {name: min(ms, again[name]) for name, ms in row['ms'][what].items()}
    return row


def _least(functions: Mapping[str, Callable[[], object]], device: str, rounds: int,
           clock: Callable[[], float]) -> dict[str, float]:
    """Returns the least milliseconds of each."""
    return {name: round(min(times), 5) for name, times in time_in_turns(functions, device, rounds, clock).items()}


def run(path: Path, dtypes: Sequence[torch.dtype], device: str, rounds: int, sample: int | None = None) -> list[Row]:
    """Measures the problems of the grid that are not in the file yet, and writes each row as soon as it is measured.

    ``sample`` is the number of problems that are drawn from the grid, the same ones in each run; None takes all.

    Returns:
        All rows of the file.

    Raises:
        InputError: If the file holds something else.
    """
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        done = [{name: row[name] for name in KEYS} for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{str(path)!r} exists and holds no rows of a grid: name another file') from error
    asked = list(problems(dtypes))
    asked = asked if sample is None else random.Random(0).sample(asked, min(sample, len(asked)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
        for problem in asked:
            if key(problem) not in done:
                rows.append(measure(problem, device, rounds))
                file.write(json.dumps(rows[-1]) + '\n')
                file.flush()
    return rows


def key(problem: Problem) -> Row:
    """Returns the values by which the rows of a file are told apart."""
    return {name: getattr(problem, name) for name in KEYS} | dict(dtype=str(problem.dtype).removeprefix('torch.'))


def speed(row: Row, what: str) -> tuple[float, str]:
    """Returns the speed of the chosen way relative to the best one, PyTorch included, and the name of the best.

    What calling our passes takes longer than calling PyTorch's is added to them, as in the choice.
    """
    own = costs.OVERHEAD if what == 'forward' else costs.OVERHEAD_OF_GRADIENT
    times = {name: ms + own * (name != 'torch') for name, ms in row['ms'][what].items()}
    best = min(times, key=times.get)
    return times[best] / times[row['chosen'][what]], best


def _has_ways(row: Row, what: str) -> bool:
    """Whether the one that the operator takes was timed alone, as on CPUs."""
    return row['chosen'][what] in row['ms'][what]


def summary(rows: Sequence[Row], worst: int = 5) -> str:
    """Returns, for each pass, dtype and memory format, how often GOAL is reached, the worst cases, and call costs."""
    lines = []
    kinds = sorted({(what, row['dtype'], row['channels_last'])
                    for row in rows for what in PASSES if _has_ways(row, what)})
    for what, dtype, channels_last in kinds:
        own = sorted(((*speed(row, what), row) for row in rows if _has_ways(row, what) and
                      row['dtype'] == dtype and row['channels_last'] == channels_last), key=lambda item: item[0])
        slow = sum(share < GOAL for share, *_ in own)
        lines.append(f'{what}, {dtype}, {"channels-last" if channels_last else "contiguous"}: below {GOAL} of the best '
                     f'in {slow} of {len(own)} shapes')
        lines += [f'  {share:.2f} {_shape(row)}: {row["chosen"][what]}, the best is {best}'
                  for share, best, row in own[:worst] if share < GOAL]
    for what in PASSES:
        both = [row for row in rows if 'torch' in row['calls'][what]]
        if both:
            ratios = [row['calls'][what]['torch'] / row['calls'][what]['mmreplk'] for row in both]
            beyond = [row['calls'][what]['mmreplk'] - row['ms'][what][row['chosen'][what]]
                      for row in both if _has_ways(row, what)]
            lines.append(f'{what}, as called: PyTorch takes {min(ratios):.2f} to {max(ratios):.0f} times as long, less '
                         f'than {GOAL} times in {sum(r < GOAL for r in ratios)} of {len(ratios)}')
            if beyond:
                lines[-1] += f'; a call costs {statistics.median(beyond) * 1e3:.0f} microseconds on top of its way'
    return '\n'.join(lines)


def _shape(row: Row) -> str:
    dilation = f' dilation {row["dy"]}' if row['dy'] > 1 else ''
    return f'{row["n"]},{row["c"]},{row["h"]},{row["kh"]}x{row["kw"]}{dilation}'


def _pass(what: str, function: Callable[[Tensor, Tensor], Tensor], x: Tensor, weight: Tensor,
          grad: Tensor) -> Callable[[], object]:
    if what == 'forward':
        return torch.no_grad()(lambda: function(x, weight))
    leaf = (x if what == 'grad_input' else weight).detach().requires_grad_()
    out = function(leaf, weight) if what == 'grad_input' else function(x, leaf)
    return lambda: torch.autograd.grad(out, leaf, grad, retain_graph=True)


def _pytorchs(what: str, problem: Problem, x: Tensor, weight: Tensor, grad: Tensor) -> Callable[[], object]:
    """Returns the call that autograd makes for a pass of PyTorch's convolution."""
    dilation = problem.dy, problem.dx
    padding = problem.dy * (problem.kh // 2), problem.dx * (problem.kw // 2)
    if what == 'forward':
        return torch.no_grad()(lambda: F.conv2d(x, weight, None, 1, padding, dilation, problem.c))
    wanted = [what == 'grad_input', what == 'grad_weight', False]
    return torch.no_grad()(lambda: torch.ops.aten.convolution_backward(
        grad, x, weight, None, (1, 1), padding, dilation, False, (0, 0), problem.c, wanted))


def _chosen(what: str, problem: Problem, x: Tensor, weight: Tensor, grad: Tensor) -> str:
    """Returns the way that the operator takes if no other gradient than that of this pass is wanted."""
    operands = x.detach().requires_grad_(what == 'grad_input'), weight.detach().requires_grad_(what == 'grad_weight')
    backend = functional.planned(*operands, None, 1, 'same', (problem.dy, problem.dx), None).backend
    if backend != 'cpu':
        return backend
    name, run, met = _bound(what, problem, x, weight, grad)
    with torch.no_grad():
        return str(same.chosen(name, met, run))


def _ways(what: str, problem: Problem, x: Tensor, weight: Tensor, grad: Tensor) -> dict[str, Callable[[], object]]:
    name, run, met = _bound(what, problem, x, weight, grad)
    predicted = {way: costs.cost(name, met, way) for way in ways.possible(name, met)}
    chosen = same.chosen(name, met, run)
    least = min(predicted.values())
    return {str(way): torch.no_grad()(functools.partial(run, way)) for way, cost in predicted.items()
            if cost < HOPELESS * least or way == chosen}


def _bound(what: str, problem: Problem, x: Tensor, weight: Tensor,
           grad: Tensor) -> tuple[str, Callable[[Way], Tensor], Problem]:
    """Returns the pass's name in ``costs``, a function that runs a way, and the problem without taps that meet nothing.
    """
    name, dilation = 'grad_weight' if what == 'grad_weight' else 'convolve', (problem.dy, problem.dx)
    (top, left), problem = problem.inside()
    weight = weight[:, :, top:top + problem.kh, left:left + problem.kw].contiguous()
    if name == 'grad_weight':
        run = functools.partial(same.grad_weight_by, x=x, grad_output=grad, kernel_size=(problem.kh, problem.kw),
                                dilation=dilation)
        return name, run, problem._replace(wants_channels_last=False)
    run = functools.partial(same.convolve_by, x=x if what == 'forward' else grad, weight=weight, bias=None,
                            dilation=dilation, flip=what != 'forward', channels_last=problem.wants_channels_last)
    return name, run, problem
