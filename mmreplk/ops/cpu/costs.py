"""What each way of convolving costs on a kind of processor, so that the cheapest can be chosen without measuring.

The time of a way is a sum of what it has to do (:func:`work`), each part at a price that was fitted to measurements by
``tools/dev/measure_cpu_thresholds.py``: :mod:`mmreplk.ops.cpu.prices`. Only ratios matter; the number of threads does
not, but for conversions, which have one.
"""

import functools
import math
from typing import NamedTuple

import torch

from .. import memory_format
from . import facts, fourier
from .prices import PRICES

# Bytes of an image from which on it does not stay in a core's cache, and of a batch from which on memory is new.
CACHE, ARENA = 2**20, 2**23


class Problem(NamedTuple):
    """What a choice depends on: input ``(n, c, h, w)``, filter, dtype, and the formats of input and result."""
    n: int
    c: int
    h: int
    w: int
    kh: int
    kw: int
    dtype: torch.dtype
    channels_last: bool
    wants_channels_last: bool


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
# Milliseconds that calling custom operators takes longer than calling PyTorch's, by whether gradients are wanted.
OVERHEAD = {False: 0.07, True: 0.28}
# What of PyTorch's time ours may take at most to be preferred: predictions miss by so much.
MARGIN = 0.85
# Milliseconds that PyTorch's im2col, for what oneDNN's forward does not take, needs for a map and for a product.
IM2COL = {torch.float32: (3e-4, 4.7e-7), torch.bfloat16: (3e-4, 3e-7)}
# The name of what this processor's prices are kept under.
PROCESSOR = 'AMX' if facts.HAS_AMX else facts.INSTRUCTIONS


def convolving_ways(problem: Problem) -> list[Way]:
    """Returns the ways of a convolution, or of the gradient of its input, that are right and return."""
    size = max(problem.kh, problem.kw)
    in_bfloat16 = problem.dtype == torch.bfloat16 and facts.HAS_BFLOAT16
    ways = [Way(kernel, channels_last, dtype)
            for dtype in ([torch.bfloat16, torch.float32] if in_bfloat16 else [torch.float32])
            for kernel in ('forward', 'transposed') for channels_last in (False, True)]  # yapf: disable
    if problem.kw > facts.WIDEST_FORWARD:
        returns = {torch.float32, torch.bfloat16} if problem.c > facts.CHANNEL_BLOCK else {torch.float32}
        ways = [way for way in ways if way.kernel != 'forward' or (way.channels_last and way.dtype in returns)]
    if problem.kh < problem.kw and problem.kh <= facts.WIDEST_FORWARD:
        ways += [Way('turned', way.channels_last, way.dtype) for way in ways if way.kernel == 'transposed']
    return ways + [FOURIER] * (facts.HAS_FOURIER and size > 5)


def grad_weight_ways(problem: Problem) -> list[Way]:
    """Returns the ways of the gradient of a filter."""
    size = max(problem.kh, problem.kw)
    ways = [Way('transposed', False, torch.float32)]
    if problem.kh > problem.kw:
        ways.append(Way('turned', False, torch.float32))
    if size <= facts.LARGEST_SOUND and problem.dtype not in facts.SLOW_DTYPES:
        ways.append(Way('pytorch', False, problem.dtype))
        if problem.dtype == torch.float32 and size > 1:
            ways.append(Way('pytorch', True, torch.float32))
    return ways + [FOURIER] * (facts.HAS_FOURIER and size > 5)


@functools.lru_cache(1024)
def cheapest(what: str, problem: Problem) -> Way:
    """Returns the way of least cost for ``'convolve'`` or ``'grad_weight'``."""
    ways = convolving_ways(problem) if what == 'convolve' else grad_weight_ways(problem)
    return min(ways, key=lambda way: cost(what, problem, way))


def cost(what: str, problem: Problem, way: Way) -> float:
    """Returns about how many milliseconds a thread takes, conversions included."""
    own = _price(f'{what} {way}', work(what, problem, way))
    pixels = problem.n * problem.c * problem.h * problem.w
    maps = 2 if what == 'grad_weight' else 1
    own += maps * _converting(pixels, problem.dtype, way, problem.channels_last)
    return own if what == 'grad_weight' else own + _converting(pixels, problem.dtype, way, problem.wants_channels_last)


def work(what: str, problem: Problem, way: Way) -> tuple[float, ...]:
    """Returns the parts of the work, in units that have prices."""
    n, c, h, w, kh, kw = problem[:6]
    if way.kernel == 'fourier':
        size = fourier.transform_size((n, c, h, w), (kh, kw))
        return 1e4, n * c * size[0] * size[1], c * size[0] * size[1], n * c * h * w
    channels = -(-c // facts.CHANNEL_BLOCK) * facts.CHANNEL_BLOCK
    if way.kernel == 'turned':
        h, w, kh, kw = w, h, kw, kh
    rows, columns, maps = taps_inside(h, kh), taps_inside(w, kw), n * channels
    if what == 'grad_weight':
        padded, few = (h + kh - 1) * (w + kw - 1), kw <= 3 and kh <= h  # what PyTorch has a compiled kernel for
        if way.kernel == 'pytorch':
            products, is_wide = maps * rows * w * kw, kw > facts.WIDEST_FORWARD
            parts = 1e4, maps * h * w, products * few, products * (not few), n * maps * kh * kw
            return (*parts, products * is_wide, products * c * (not few)) if way.channels_last else parts
        return 1e4, maps * h * w, maps * padded, maps * h * w * kh * kw, maps * kh * kw * h, maps * kh * h
    image = h * w * c * way.dtype.itemsize
    is_alone, is_large, is_huge = c <= facts.CHANNEL_BLOCK, image > CACHE, n * image > ARENA
    # The channels-last forward is slow for rows of 13 taps, but for one and for three blocks of channels.
    is_slow = kw == 13 and channels not in (facts.CHANNEL_BLOCK, 3 * facts.CHANNEL_BLOCK)
    return (1e4, maps * h * w, maps * h * w * is_large, maps * rows * w * kw, maps * rows * columns, maps * rows * kw,
            channels * kh * kw, maps * rows * w * kw * is_alone, maps * rows * columns * is_slow,
            maps * rows * w * kw * (kw > 13), maps * rows * w * w * (kw > w), maps * rows * columns * is_large,
            maps * h * w * is_huge)


def is_slow_in_pytorch(problem: Problem, is_training: bool) -> bool:
    """Whether what PyTorch does in the dtype and format given, all three passes if ``is_training``, takes longer."""
    own, theirs = cost('convolve', problem, cheapest('convolve', problem)), _cost_of_pytorchs_forward(problem)
    if is_training:
        problem = problem._replace(channels_last=problem.wants_channels_last)
        in_channels_last = problem.channels_last and problem.dtype == torch.float32
        own += (cost('convolve', problem, cheapest('convolve', problem)) +
                cost('grad_weight', problem, cheapest('grad_weight', problem)))
        theirs += (cost('convolve', problem, Way('transposed', problem.channels_last, problem.dtype)) +
                   cost('grad_weight', problem, Way('pytorch', in_channels_last, problem.dtype)))
    return own + OVERHEAD[is_training] * torch.get_num_threads() < MARGIN * theirs


def _cost_of_pytorchs_forward(problem: Problem) -> float:
    if problem.kw > facts.WIDEST_FORWARD and not problem.wants_channels_last:
        per_map, per_product = IM2COL[problem.dtype]
        return per_map * problem.n * problem.c + per_product * math.prod(problem[:6])
    return cost('convolve', problem, Way('forward', problem.wants_channels_last, problem.dtype))


@functools.cache
def taps_inside(extent: int, taps: int) -> int:
    """Returns how many pairs of an output and an input of ``extent`` are within ``taps // 2`` of each other."""
    return sum(max(0, extent - abs(offset)) for offset in range(-(taps // 2), taps // 2 + 1))


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
        total += laying_out(pixels, dtype)
    if dtype != way.dtype:
        total += _price('cast', (1e4, pixels))
    return total
