"""What each way of convolving costs on a kind of processor, so that the cheapest can be chosen without measuring.

The time of a way is the sum of the parts of its work (:func:`work`), each times a price (:mod:`mmreplk.ops.cpu.prices`)
that ``tools/dev/measure_cpu_thresholds.py`` fits to measurements. Only ratios matter; the number of threads does not,
except for conversions, which run on one if there are few.
"""

import functools
import math
from typing import NamedTuple

import torch

from .. import memory_format
from . import facts, fourier
from .prices import PRICES

# Bytes from which on an image does not stay in a core's cache, and from which on a batch gets new memory.
CACHE, ARENA = 2**20, 2**23
# Bytes from which on the C library maps new memory for each tensor, and the milliseconds that each byte takes.
KEPT, NEW_BYTE = 2**25, 4e-7


class Problem(NamedTuple):
    """What a choice depends on: input ``(n, c, h, w)``, filter, dtype, formats of input and result, dilation."""
    n: int
    c: int
    h: int
    w: int
    kh: int
    kw: int
    dtype: torch.dtype
    channels_last: bool
    wants_channels_last: bool
    dy: int = 1
    dx: int = 1

    @property
    def is_dilated(self) -> bool:
        return self.dy > 1 or self.dx > 1


class Way(NamedTuple):
    """How to compute: by which kernel, in which memory format and dtype."""
    kernel: str
    channels_last: bool
    dtype: torch.dtype

    def __str__(self) -> str:
        layout = 'channels_last' if self.channels_last else 'contiguous'
        return f'{self.kernel} {layout} {str(self.dtype).removeprefix("torch.")}'


FOURIER = Way('fourier', False, torch.float32)
LOW_PRECISION = (torch.bfloat16, torch.float16)
# Milliseconds that calling our passes takes longer than calling PyTorch's, for a convolution and for each gradient.
OVERHEAD, OVERHEAD_OF_GRADIENT = 0.015, 0.04
# The share of PyTorch's time up to which ours is preferred: predictions are no more precise.
MARGIN = 0.95
# Milliseconds per map and per product of PyTorch's im2col, which computes what oneDNN's forward does not take.
IM2COL = {torch.float32: (3e-4, 4.7e-7), torch.bfloat16: (3e-4, 3e-7)}
# The key of this processor's prices.
PROCESSOR = 'AMX' if facts.HAS_AMX else facts.INSTRUCTIONS


def ways(what: str, problem: Problem) -> list[Way]:
    """Returns the ways of ``'convolve'`` or ``'grad_weight'``."""
    return convolving_ways(problem) if what == 'convolve' else grad_weight_ways(problem)


def convolving_ways(problem: Problem) -> list[Way]:
    """Returns the ways of a convolution, or of the gradient of its input, that give the right result and end."""
    size = max(problem.kh, problem.kw)
    in_bfloat16 = problem.dtype == torch.bfloat16 and facts.HAS_BFLOAT16
    dtypes = [torch.bfloat16, torch.float32] if in_bfloat16 else [torch.float32]
    if problem.is_dilated:
        return [Way('forward', channels_last, dtype) for dtype in dtypes for channels_last in (False, True)
                ] + [Way('phases', True, problem.dtype)]
    ways = [Way(kernel, channels_last, dtype)
            for dtype in dtypes for kernel in ('forward', 'transposed') for channels_last in (False, True)]
    if problem.kw > facts.WIDEST_FORWARD:
        returns = {torch.float32, torch.bfloat16} if problem.c > facts.CHANNEL_BLOCK else {torch.float32}
        ways = [way for way in ways if way.kernel != 'forward' or (way.channels_last and way.dtype in returns)]
    if problem.kh < problem.kw and problem.kh <= facts.WIDEST_FORWARD:
        ways += [Way('turned', way.channels_last, way.dtype) for way in ways if way.kernel == 'transposed']
    return ways + [FOURIER] * (facts.HAS_FOURIER and size > 5)


def grad_weight_ways(problem: Problem) -> list[Way]:
    """Returns the ways of the gradient of a filter."""
    size, pytorchs = max(problem.kh, problem.kw), []
    if size <= facts.LARGEST_SOUND and problem.dtype not in facts.SLOW_DTYPES:
        pytorchs.append(Way('pytorch', False, problem.dtype))
        if problem.dtype == torch.float32 and size > 1:
            pytorchs.append(Way('pytorch', True, torch.float32))
    if problem.is_dilated:
        # Phases of one row or column are slow.
        phases = [Way('phases', True, problem.dtype)] * (problem.h > problem.dy and problem.w > problem.dx)
        return [*pytorchs, *phases, Way('dense', False, problem.dtype)]
    ways = [Way('transposed', False, torch.float32)]
    if problem.kh > problem.kw:
        ways.append(Way('turned', False, torch.float32))
    return ways + pytorchs + [FOURIER] * (facts.HAS_FOURIER and size > 5)


def pytorchs(what: str, problem: Problem) -> Way:
    """Returns how PyTorch itself computes a pass: ``'forward'``, ``'grad_input'`` or ``'grad_weight'``."""
    if what == 'forward':
        return Way('forward', problem.wants_channels_last, problem.dtype)
    if what == 'grad_input':
        return Way('transposed', problem.wants_channels_last, problem.dtype)
    return Way('pytorch', problem.wants_channels_last and problem.dtype == torch.float32, problem.dtype)


@functools.lru_cache(4096)
def cheapest(what: str, problem: Problem) -> Way:
    """Returns the way of least cost for ``'convolve'`` or ``'grad_weight'``."""
    return min(ways(what, problem), key=lambda way: cost(what, problem, way))


@functools.lru_cache(4096)
def cheapest_prepared(problem: Problem) -> Way:
    """Returns the way of least cost of convolving if the spectrum of the filter is known.

    oneDNN's backward-data in bfloat16 takes several times as long as predicted for rows of 13 taps, and its forward is
    never much slower.
    """

    def own(way: Way) -> float:
        if way != FOURIER:
            return cost('convolve', problem, way)
        known = _fourier_work(problem)[2]
        return cost('convolve', problem, way) - _price(price_name('convolve', problem, way), (0, 0, known, 0))

    return min((way for way in ways('convolve', problem) if way[::2] != ('transposed', torch.bfloat16)), key=own)


def cost(what: str, problem: Problem, way: Way) -> float:
    """Returns about how many milliseconds one thread takes, conversions included."""
    own = _price(price_name(what, problem, way), work(what, problem, way))
    pixels = problem.n * problem.c * problem.h * problem.w
    maps = 2 if what == 'grad_weight' else 1
    own += maps * _converting(pixels, problem.dtype, way, problem.channels_last)
    return own if what == 'grad_weight' else own + _converting(pixels, problem.dtype, way, problem.wants_channels_last)


def price_name(what: str, problem: Problem, way: Way) -> str:
    """Returns the name of the price of a way."""
    return f'dilated {what} {way}' if problem.is_dilated else f'{what} {way}'


def work(what: str, problem: Problem, way: Way) -> tuple[float, ...]:
    """Returns the parts of the work, in units that have prices."""
    if problem.is_dilated:
        return _dilated_work(what, problem, way)
    if way.kernel == 'fourier':
        return _fourier_work(problem)
    if way.kernel == 'turned':
        problem = problem._replace(h=problem.w, w=problem.h, kh=problem.kw, kw=problem.kh)
    return _convolving_work(problem, way) if what == 'convolve' else _grad_weight_work(problem, way)


def _convolving_work(problem: Problem, way: Way) -> tuple[float, ...]:
    n, c, h, w, kh, kw = problem[:6]
    channels = _whole_blocks(c)
    rows, columns, maps = taps_inside(h, kh), taps_inside(w, kw), n * channels
    image = h * w * c * way.dtype.itemsize
    is_alone, is_large, is_huge = c <= facts.CHANNEL_BLOCK, image > CACHE, n * image > ARENA
    # The channels-last forward is slow for rows of 13 taps, except with one or three blocks of channels.
    is_slow = kw == 13 and channels not in (facts.CHANNEL_BLOCK, 3 * facts.CHANNEL_BLOCK)
    return (1e4, maps * h * w, maps * h * w * is_large, maps * rows * w * kw, maps * rows * columns, maps * rows * kw,
            channels * kh * kw, maps * rows * w * kw * is_alone, maps * rows * columns * is_slow,
            maps * rows * w * kw * (kw > 13), maps * rows * w * w * (kw > w), maps * rows * columns * is_large,
            maps * h * w * is_huge)


def _grad_weight_work(problem: Problem, way: Way) -> tuple[float, ...]:
    n, c, h, w, kh, kw = problem[:6]
    maps = n * _whole_blocks(c)
    if way.kernel == 'pytorch':
        few = kw <= 3 and kh <= h  # what PyTorch has a compiled kernel for
        products, is_wide = maps * taps_inside(h, kh) * w * kw, kw > facts.WIDEST_FORWARD
        parts = 1e4, maps * h * w, products * few, products * (not few), n * maps * kh * kw
        return (*parts, products * is_wide, products * c * (not few)) if way.channels_last else parts
    padded = (h + kh - 1) * (w + kw - 1)
    return 1e4, maps * h * w, maps * padded, maps * h * w * kh * kw, maps * kh * kw * h, maps * kh * h


def _fourier_work(problem: Problem) -> tuple[float, ...]:
    n, c, h, w, kh, kw = problem[:6]
    pixels = math.prod(fourier.transform_size((n, c, h, w), (kh, kw)))
    return 1e4, n * c * pixels, c * pixels, n * c * h * w


def _dilated_work(what: str, problem: Problem, way: Way) -> tuple[float, ...]:
    """The first part of phases and of a dense gradient is the cost of the undilated problem that they come down to."""
    n, c, h, w, kh, kw = problem[:6]
    extent = problem.dy * (kh - 1) + 1, problem.dx * (kw - 1) + 1
    maps, pixels = n * _whole_blocks(c), n * c * h * w
    if way.kernel in ('phases', 'dense'):
        inner = _undilated(problem, way.kernel, extent)
        return cost(what, inner, cheapest(what, inner)), 1e4, pixels, c * extent[0] * extent[1]
    rows, columns = taps_inside(h, kh, problem.dy), taps_inside(w, kw, problem.dx)
    products, is_wide = maps * h * w * kh * kw, extent[1] > facts.WIDEST_FORWARD
    is_wide |= way.channels_last and extent[1] > w  # oneDNN has no kernel for these either
    if what == 'convolve':
        return (1e4, maps * h * w, maps * rows * w * kw * (not is_wide), maps * rows * columns * (not is_wide),
                products * is_wide, maps * kh * kw * is_wide)
    is_small = extent[0] > h or extent[1] > w  # the map
    return 1e4, maps * h * w, products, products * is_small, n * maps * kh * kw


def _undilated(problem: Problem, way: str, extent: tuple[int, int]) -> Problem:
    """Returns the problem of all phases, or of the filter with a tap at each pixel of its ``extent``."""
    n, c, h, w, kh, kw, dtype, _, _, dy, dx = problem
    if way == 'dense':
        kh, kw, phases, is_last = *extent, 1, False
    else:
        h, w, phases, is_last = -(-h // dy), -(-w // dx), dy * dx, True
    return Problem(n * phases, c, h, w, min(kh, 2 * h - 1), min(kw, 2 * w - 1), dtype, is_last, is_last)


def _whole_blocks(channels: int) -> int:
    return -(-channels // facts.CHANNEL_BLOCK) * facts.CHANNEL_BLOCK


def is_slow_in_pytorch(problem: Problem, wants_grad_input: bool, wants_grad_weight: bool) -> bool:
    """Whether PyTorch takes longer than our ways in this dtype and format, the gradients that are wanted included."""
    passes = ['forward'] + ['grad_input'] * wants_grad_input + ['grad_weight'] * wants_grad_weight
    own, theirs = OVERHEAD + OVERHEAD_OF_GRADIENT * (len(passes) - 1), 0.0
    own *= torch.get_num_threads()
    for what in passes:
        name = 'grad_weight' if what == 'grad_weight' else 'convolve'
        own += cost(name, problem, cheapest(name, problem))
        theirs += _of_pytorch(what, problem)
        problem = problem._replace(channels_last=problem.wants_channels_last)
    return own < MARGIN * theirs


def _of_pytorch(what: str, problem: Problem) -> float:
    is_wide = problem.kw > facts.WIDEST_FORWARD and not problem.wants_channels_last and not problem.is_dilated
    if what == 'forward' and is_wide:
        per_map, per_product = IM2COL[problem.dtype]
        return per_map * problem.n * problem.c + per_product * math.prod(problem[:6])
    return cost('grad_weight' if what == 'grad_weight' else 'convolve', problem, pytorchs(what, problem))


@functools.cache
def taps_inside(extent: int, taps: int, dilation: int = 1) -> int:
    """Returns how many pairs of an output and an input a filter of ``taps`` connects on an axis of ``extent``."""
    return sum(max(0, extent - abs(offset) * dilation) for offset in range(-(taps // 2), taps // 2 + 1))


def _price(name: str, parts: tuple[float, ...]) -> float:
    prices = PRICES.get(PROCESSOR, {}).get(name)
    return float('inf') if prices is None else sum(price * part for price, part in zip(prices, parts, strict=True))


def laying_out(pixels: int, dtype: torch.dtype) -> float:
    """Returns the cost of converting a map from one memory format to the other."""
    threads = torch.get_num_threads() if torch.get_num_threads() <= memory_format.MOST_THREADS else 1
    return threads * _price(f'lay out {"bfloat16" if dtype in LOW_PRECISION else "float32"}', (1e4, pixels))


def _converting(pixels: int, dtype: torch.dtype, way: Way, channels_last: bool) -> float:
    """Returns the cost of converting a map between its own format and dtype and those of a way."""
    total = 0.0
    if channels_last != way.channels_last:
        total += laying_out(pixels, dtype) + _new_memory(pixels * dtype.itemsize)
    if dtype != way.dtype:
        total += _price('cast', (1e4, pixels)) + _new_memory(pixels * way.dtype.itemsize)
    return total


def _new_memory(size: int) -> float:
    """Returns the cost of bytes that the allocator does not keep for the next call."""
    return NEW_BYTE * size if size >= KEPT else 0.0
