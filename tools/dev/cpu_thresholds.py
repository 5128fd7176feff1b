"""Measuring what each way of convolving costs on this CPU: the data of :mod:`mmreplk.ops.cpu.prices`."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from mmreplk.ops import memory_format
from mmreplk.ops.cpu import costs, undilated
from mmreplk.ops.cpu.costs import Problem, Way

CHANNELS = (8, 16, 32, 48, 64, 100, 128, 256, 384, 512, 1024)
EXTENTS = (7, 10, 14, 16, 20, 28, 32, 33, 48, 56, 64, 96, 128, 200, 256)
KERNEL_SIZES = (1, 3, 5, 7, 9, 11, 13, 15, 17, 21, 25, 31, 41, 51)
STRIPS = ((51, 5), (49, 5), (13, 5), (21, 3), (19, 1), (11, 1), (7, 1))
MOST_PIXELS, MOST_PRODUCTS, SLOW_PRODUCTS = 4e6, 6e8, 4e7
ROUNDS, TURN = 3, 3e-3
Row = dict[str, Any]


def problems(seed: int) -> Iterator[Problem]:
    """Yields random problems of float32, for ever: squares and, one in three, strips."""
    rng = random.Random(seed)
    while True:
        n, c, h = rng.choice((1, 1, 2, 8)), rng.choice(CHANNELS), rng.choice(EXTENTS)
        kernel = (rng.choice(KERNEL_SIZES),) * 2 if rng.random() < 2 / 3 else rng.choice(STRIPS)[::rng.choice((1, -1))]
        products = n * c * costs.taps_inside(h, kernel[0]) * costs.taps_inside(h, kernel[1])
        if 5e3 < n * c * h * h < MOST_PIXELS and products < MOST_PRODUCTS:
            yield Problem(n, c, h, h, *kernel, torch.float32, False, False)


def measure(problem: Problem) -> Row:
    """Returns the problem's sizes and, by the name of its price, the milliseconds of each way without conversions."""
    n, c, h, w, kh, kw = problem[:6]
    row = dict(zip(Problem._fields[:6], problem[:6], strict=True))
    x, weight, grad = torch.randn(n, c, h, w), torch.randn(c, 1, kh, kw), torch.randn(n, c, h, w)
    work: dict[str, Callable[[], object]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        own, other = x.to(dtype), memory_format.laid_out(x.to(dtype), True)
        for way in costs.convolving_ways(problem._replace(dtype=dtype)):
            if way.dtype == dtype:
                work[f'convolve {way}'] = _bind(undilated.convolve_by, way, other if way.channels_last else own, weight,
                                                None, False, way.channels_last)
        for way in costs.grad_weight_ways(problem._replace(dtype=dtype)):
            is_quick = way.kernel != 'pytorch' or n * c * h * w * kh * kw < SLOW_PRODUCTS
            if is_quick and way.dtype == dtype:
                maps = (memory_format.laid_out(t.to(dtype), way.channels_last) for t in (x, grad))
                work[f'grad_weight {way}'] = _bind(undilated.grad_weight_by, way, *maps, (kh, kw))
        work[f'lay out {str(dtype).removeprefix("torch.")}'] = _bind(memory_format.convert, own, True)
    work['cast'] = _bind(x.to, torch.bfloat16)
    with torch.no_grad():
        return dict(row, milliseconds={name: _milliseconds(run) for name, run in work.items()})


def fitted(rows: Sequence[Row]) -> dict[str, tuple[float, ...]]:
    """Returns the prices that fit measurements best: least mean ratio of what they predict to what was measured."""
    names = sorted({name for row in rows for name in row['milliseconds']})
    return {name: _fit([(_parts(name, row), row['milliseconds'][name]) for row in rows if name in row['milliseconds']])
            for name in names}  # yapf: disable


def _fit(samples: Sequence[tuple[tuple[float, ...], float]], steps: int = 2000) -> tuple[float, ...]:
    parts = torch.tensor([part for part, _ in samples], dtype=torch.float64)
    parts /= torch.tensor([[time] for _, time in samples], dtype=torch.float64)
    scale = parts.mean(0).clamp(min=1e-300)
    logarithms = torch.full((parts.shape[1],), -1.5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logarithms], lr=0.05)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            (parts / scale @ logarithms.exp()).log().abs().mean().backward()
            optimizer.step()
    prices = (logarithms.detach().exp() / scale) * (parts.sum(0) > 0)
    return tuple(float(f'{price:.3g}') for price in prices.tolist())


def _parts(name: str, row: Row) -> tuple[float, ...]:
    problem = Problem(*(row[field] for field in Problem._fields[:6]), torch.float32, False, False)
    if name == 'cast' or name.startswith('lay out'):
        return 1e4, math.prod(problem[:4])
    what, way = named(name)
    return costs.work(what, problem, way)


def named(name: str) -> tuple[str, Way]:
    """Returns the pass and the way that a price is named after."""
    what, kernel, layout, dtype = name.split()
    return what, Way(kernel, layout == 'channels_last', getattr(torch, dtype))


def regrets(rows: Sequence[Row], prices: dict[str, tuple[float, ...]], dtype: torch.dtype,
            channels_last: bool) -> dict[str, list[tuple[float, Problem, Way, Way]]]:
    """Returns, for each pass, by how much the way that ``prices`` choose is slower than the best one measured.

    Conversions are taken from the measurements too. Each is the ratio, the problem, the way chosen and the best one.
    """
    found: dict[str, list[tuple[float, Problem, Way, Way]]] = {'convolve': [], 'grad_weight': []}
    before, costs.PRICES[costs.PROCESSOR] = costs.PRICES.get(costs.PROCESSOR, {}), prices
    try:
        for row in rows:
            problem = Problem(*(row[field] for field in Problem._fields[:6]), dtype, channels_last, channels_last)
            for what, ways in (('convolve', costs.convolving_ways(problem)),
                               ('grad_weight', costs.grad_weight_ways(problem))):
                totals = {way: _total(what, row, problem, way) for way in ways}
                measured = {way: total for way, total in totals.items() if total < math.inf}
                if measured:
                    best = min(measured, key=measured.get)
                    predicted = {way: costs.cost(what, problem, way) for way in measured}
                    chosen = min(predicted, key=predicted.get)
                    found[what].append((measured[chosen] / measured[best], problem, chosen, best))
    finally:
        costs.PRICES[costs.PROCESSOR] = before
    return found


def _total(what: str, row: Row, problem: Problem, way: Way) -> float:
    times = row['milliseconds']
    total, maps = times.get(f'{what} {way}', math.inf), 2
    if problem.channels_last != way.channels_last:
        total += maps * times[f'lay out {str(problem.dtype).removeprefix("torch.")}']
    return total + maps * times['cast'] * (problem.dtype != way.dtype)


def _bind(function: Callable[..., object], *arguments: Any) -> Callable[[], object]:
    return lambda: function(*arguments)


def _milliseconds(run: Callable[[], object]) -> float:
    """Returns the least time that the thread computes for, which other programs on the machine do not stretch."""
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

