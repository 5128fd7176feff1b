"""Measures what each way of convolving costs on this CPU: the data of :mod:`mmreplk.ops.cpu.prices`."""

import contextlib
import functools
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from mmreplk.ops import memory_format
from mmreplk.ops.cpu import costs, facts, left_to_pytorch, same, ways
from mmreplk.ops.cpu.ways import Problem, Way

CHANNELS = (8, 16, 32, 48, 64, 100, 128, 256, 384, 512, 1024)
EXTENTS = (7, 10, 14, 16, 20, 28, 32, 33, 48, 56, 64, 96, 128, 200, 256)
KERNEL_SIZES = (3, 5, 7, 9, 11, 13, 15, 17, 21, 25, 31, 41, 51)
STRIPS = ((51, 5), (49, 5), (13, 5), (21, 3), (19, 1), (11, 1), (7, 1))
DILATED_SIZES, DILATIONS = (3, 5, 7, 9), (2, 3, 4, 5, 7)
MOST_PIXELS, MOST_PRODUCTS, MOST_DILATED_PRODUCTS, SLOW_PRODUCTS = 1e7, 6e8, 4e7, 4e7
FIELDS = ('n', 'c', 'h', 'w', 'kh', 'kw', 'dy', 'dx')  # of a problem and of a row
ROUNDS, TURN = 3, 3e-3
Row = dict[str, Any]


def problems(seed: int) -> Iterator[Problem]:
    """Yields random problems in float32 without end: one in three is a strip, one in four is dilated."""
    rng = random.Random(seed)
    while True:
        n, c, h = rng.choice((1, 1, 2, 8, 32)), rng.choice(CHANNELS), rng.choice(EXTENTS)
        kernel = (rng.choice(KERNEL_SIZES),) * 2 if rng.random() < 2 / 3 else rng.choice(STRIPS)[::rng.choice((1, -1))]
        dilation = rng.choice(DILATIONS) if rng.random() < 1 / 4 else 1
        if dilation > 1:
            kernel = (rng.choice(DILATED_SIZES),) * 2
        _, found = Problem(n, c, h, h, *kernel, torch.float32, False, False, dilation, dilation).inside()
        products = n * c * costs.taps_inside(h, found.kh) * costs.taps_inside(h, found.kw)
        most = MOST_PRODUCTS if dilation == 1 else MOST_DILATED_PRODUCTS
        if 5e3 < n * c * h * h < MOST_PIXELS and products < most and found.kh * found.kw > 1:
            yield found


def measure(problem: Problem) -> Row:
    """Returns the problem's sizes and, by the name of its price, the milliseconds of each way without conversions."""
    n, c, h, w, kh, kw, *_, dy, dx = problem
    row: Row = {field: getattr(problem, field) for field in FIELDS}
    x, weight, grad = torch.randn(n, c, h, w), torch.randn(c, 1, kh, kw), torch.randn(n, c, h, w)
    work: dict[str, Callable[[], object]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        own, other = x.to(dtype), memory_format.laid_out(x.to(dtype), True)
        typed = problem._replace(dtype=dtype)
        for way in ways.convolving(typed):
            if way.dtype == dtype:
                work[costs.price_name('convolve', problem, way)] = functools.partial(
                    same.convolve_by, way, x=other if way.channels_last else own, weight=weight, bias=None,
                    dilation=(dy, dx), flip=False, channels_last=way.channels_last)
        if problem.is_dilated and dtype not in facts.SLOW_DTYPES:  # what PyTorch takes for the gradient of the input
            padding = dy * (kh // 2), dx * (kw // 2)
            for channels_last in (False, True):
                way = Way('transposed', channels_last, dtype)
                work[costs.price_name('convolve', problem, way)] = functools.partial(
                    left_to_pytorch.grad_input, other if channels_last else own, weight.to(dtype), (h, w), (1, 1),
                    padding, (dy, dx), channels_last)
        for way in ways.grad_weight(typed):
            is_quick = way.kernel != 'pytorch' or n * c * h * w * kh * kw < SLOW_PRODUCTS
            if is_quick and way.dtype == dtype:
                maps = [memory_format.laid_out(t.to(dtype), way.channels_last) for t in (x, grad)]
                work[costs.price_name('grad_weight', problem, way)] = functools.partial(
                    same.grad_weight_by, way, x=maps[0], grad_output=maps[1], kernel_size=(kh, kw), dilation=(dy, dx))
        name = str(dtype).removeprefix('torch.')
        is_im2col = kw > facts.WIDEST_FORWARD and not problem.is_dilated and dtype not in facts.SLOW_DTYPES
        if is_im2col and n * c * h * w * kh * kw < SLOW_PRODUCTS:
            work[f'im2col {name}'] = functools.partial(F.conv2d, own, weight.to(dtype), None, 1, (kh // 2, kw // 2), 1,
                                                       c)
        work[f'lay out {name}'] = functools.partial(memory_format.convert, own, True)
    work['cast'] = functools.partial(x.to, torch.bfloat16)
    with torch.no_grad():
        return dict(row, milliseconds={name: _milliseconds(run) for name, run in work.items()})


def fitted(rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
    """Returns the prices that fit measurements best: the mean of ``|log(predicted / measured)|`` is least."""
    names = sorted({name for row in rows for name in row['milliseconds']})
    return {name: _fit([(_parts(name, row), _memory(name, row), row['milliseconds'][name])
                        for row in rows if name in row['milliseconds']]) for name in names}


@contextlib.contextmanager
def _at(prices: dict[str, tuple[float, ...]]) -> Iterator[None]:
    """Gives this processor other ``prices`` for a while."""
    before, costs.PRICES[costs.PROCESSOR] = costs.PRICES.get(costs.PROCESSOR, {}), prices
    costs.cheapest.cache_clear()
    try:
        yield
    finally:
        costs.PRICES[costs.PROCESSOR] = before
        costs.cheapest.cache_clear()


def _fit(samples: Sequence[tuple[tuple[float, ...], float, float]], steps: int = 2000) -> tuple[float, ...]:
    parts, memory, times = (torch.tensor(column, dtype=torch.float64) for column in zip(*samples, strict=True))
    parts, memory = parts / times[:, None], memory / times
    scale = parts.mean(0).clamp(min=1e-300)
    logarithms = torch.full((parts.shape[1],), -1.5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logarithms], lr=0.05)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            (parts / scale @ logarithms.exp() + memory).log().abs().mean().backward()
            optimizer.step()
    prices = (logarithms.detach().exp() / scale) * (parts.sum(0) > 0)
    return tuple(float(f'{price:.3g}') for price in prices.tolist())


def _parts(name: str, row: Row) -> tuple[float, ...]:
    problem = _problem(row, torch.float32, False)
    if name == 'cast':
        return 1e4, math.prod(problem[:4])
    if name.startswith('im2col'):
        return costs.im2col_work(problem)
    if name.startswith('lay out'):
        return costs.laying_out_work(problem._replace(dtype=getattr(torch, name.split()[-1])))
    what, way = named(name)
    return costs.work(what, problem._replace(dtype=way.dtype), way)


def _memory(name: str, row: Row) -> float:
    """Returns the milliseconds that new memory takes in a measurement, which have a price of their own."""
    problem = _problem(row, torch.float32, False)
    if name == 'cast' or name.startswith('lay out'):
        size = 4 if name == 'lay out float32' else 2
        return costs.new_memory([size * math.prod(problem[:4])])
    if name.startswith('im2col'):
        return 0.0
    what, way = named(name)
    alone = problem._replace(dtype=way.dtype, channels_last=way.channels_last, wants_channels_last=way.channels_last)
    return costs.memory(what, alone, way)


def _problem(row: Row, dtype: torch.dtype, channels_last: bool) -> Problem:
    sizes = [row.get(field, 1) for field in FIELDS]
    return Problem(*sizes[:6], dtype, channels_last, channels_last, *sizes[6:])


def named(name: str) -> tuple[str, Way]:
    """Returns the pass and the way that a price is named after."""
    what, kernel, layout, dtype = name.removeprefix('dilated ').removeprefix('narrow ').split()
    return what, Way(kernel, layout == 'channels_last', getattr(torch, dtype))


def regrets(rows: Sequence[Row], prices: dict[str, tuple[float, ...]], dtype: torch.dtype,
            channels_last: bool) -> dict[str, list[tuple[float, Problem, Way, Way]]]:
    """Returns, for each pass, by how much the way that ``prices`` choose is slower than the best one measured.

    Conversions are taken from the measurements too. Each is the ratio, the problem, the way chosen and the best one.
    """
    found: dict[str, list[tuple[float, Problem, Way, Way]]] = {'convolve': [], 'grad_weight': []}
    with _at(prices):
        for row in rows:
            problem = _problem(row, dtype, channels_last)
            for what in found:
                totals = {way: _total(what, row, problem, way) for way in ways.possible(what, problem)}
                measured = {way: total for way, total in totals.items() if total < math.inf}
                if measured:
                    best = min(measured, key=measured.get)
                    predicted = {way: costs.cost(what, problem, way) for way in measured}
                    chosen = min(predicted, key=predicted.get)
                    found[what].append((measured[chosen] / measured[best], problem, chosen, best))
    return found


def _total(what: str, row: Row, problem: Problem, way: Way) -> float:
    names = [costs.price_name(what, problem, way)]
    if problem.channels_last != way.channels_last:
        names += 2 * [f'lay out {str(problem.dtype).removeprefix("torch.")}']
    names += 2 * ['cast'] * (problem.dtype != way.dtype)
    # Together they may need more new memory than each alone.
    return sum(row['milliseconds'].get(name, math.inf) - _memory(name, row) for name in names) + costs.memory(
        what, problem, way)


def _milliseconds(run: Callable[[], object]) -> float:
    """Returns the shortest processor time of this thread, which other programs on the machine do not stretch."""
    run()
    begin = time.thread_time()
    run()
    calls = 1 + int(TURN / max(time.thread_time() - begin, TURN / 50))
    least = math.inf
    for _ in range(ROUNDS):
        begin = time.thread_time()
        for _ in range(calls):
            run()
        least = min(least, (time.thread_time() - begin) * 1e3 / calls)
    return round(least, 5)

