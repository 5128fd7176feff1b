"""What each way of convolving costs on a kind of processor, so that the cheapest can be chosen without measuring.

The time of a way is the sum of the parts of its work (:func:`work`), each times a price (:mod:`mmreplk.ops.cpu.prices`)
that ``tools/dev/measure_cpu_thresholds.py`` fits to measurements. Only ratios matter; the number of threads does not,
except for conversions, which run on one if there are few.
"""

import functools
import math

import torch

from .. import memory_format
from . import direct, facts, fourier, ways
from .prices import PRICES
from .ways import FOURIER, Problem, Way

# Bytes from which on a batch does not stay in the caches, and those between which pixels share sets of the first.
CACHE, PAGE = 2**22, 2**12
# The C library maps new memory for a tensor of this many bytes or more, and keeps no more than twice as many that are
# free. What the system then takes for each new byte, in milliseconds.
KEPT, NEW_BYTE = 2**25, 4.5e-7
LOW_PRECISION = (torch.bfloat16, torch.float16)
# The share of PyTorch's time up to which ours is preferred: predictions are no more precise.
MARGIN = 0.95
# The key of this processor's prices.
PROCESSOR = 'AMX' if facts.HAS_AMX else facts.INSTRUCTIONS
# Milliseconds that calling our passes takes longer than calling PyTorch's, for a convolution and for each gradient,
# on the machine that the prices are from.
OVERHEAD, OVERHEAD_OF_GRADIENT = (0.05, 0.085) if PROCESSOR == 'AVX2' else (0.015, 0.04)


@functools.lru_cache(4096)
def cheapest(what: str, problem: Problem) -> Way:
    """Returns the way of least cost for ``'convolve'`` or ``'grad_weight'``."""
    return min(ways.possible(what, problem), key=lambda way: cost(what, problem, way))


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

    return min((way for way in ways.convolving(problem) if way[::2] != ('transposed', torch.bfloat16)), key=own)


def cost(what: str, problem: Problem, way: Way) -> float:
    """Returns about how many milliseconds one thread takes, conversions included."""
    if problem.kh == problem.kw == 1 and way.kernel in ('forward', 'transposed') and way.dtype == torch.float32:
        return math.inf  # up to twenty times as long as our own kernel: no price says how much exactly
    total = _price(price_name(what, problem, way), work(what, problem, way)) + memory(what, problem, way)
    for channels_last in _formats(what, problem):
        if channels_last != way.channels_last:
            total += laying_out(problem)
        if problem.dtype != way.dtype:
            total += _price('cast', (1e4, math.prod(problem[:4])))
    return total


def _formats(what: str, problem: Problem) -> tuple[bool, bool]:
    """Returns the memory formats of the two maps of a pass."""
    return problem.channels_last, problem.channels_last if what == 'grad_weight' else problem.wants_channels_last


def memory(what: str, problem: Problem, way: Way) -> float:
    """Returns the cost of the memory for results, copies and conversions that the allocator does not keep."""
    # oneDNN's copies by blocks of channels
    inner = 0 if way.channels_last or way.kernel in ('direct', 'fourier') else 2
    copies = 1 + inner if what == 'convolve' else inner * (way.kernel == 'pytorch')
    pixels = math.prod(problem[:4])
    sizes = [pixels * way.dtype.itemsize] * (copies + 2 * (problem.dtype != way.dtype))
    sizes += [pixels * problem.dtype.itemsize for last in _formats(what, problem) if last != way.channels_last]
    return new_memory(sizes)


def new_memory(sizes: list[int]) -> float:
    """Returns the cost of tensors of these bytes, if the allocator does not keep their memory for the next call."""
    return NEW_BYTE * sum(sizes) if sizes and (max(sizes) >= KEPT or sum(sizes) >= 2 * KEPT) else 0.0


def price_name(what: str, problem: Problem, way: Way) -> str:
    """Returns the name of the price of a way."""
    if what == 'grad_weight' and way.kernel == 'direct':
        return f'narrow {what} {way}' if _is_along_the_map(problem, way) else f'{what} {way}'
    return f'dilated {what} {way}' if problem.is_dilated else f'{what} {way}'


def work(what: str, problem: Problem, way: Way) -> tuple[float, ...]:
    """Returns the parts of the work, in units that have prices."""
    if way.kernel == 'direct':
        return _direct_work(what, problem, way)
    if problem.is_dilated:
        return _dilated_work(what, problem, way)
    if way.kernel == 'fourier':
        return _fourier_work(problem)
    return _convolving_work(problem, way) if what == 'convolve' else _grad_weight_work(problem, way)


def _convolving_work(problem: Problem, way: Way) -> tuple[float, ...]:
    n, c, h, w, kh, kw = problem[:6]
    channels, image = _whole_blocks(c), h * w * c * way.dtype.itemsize
    rows, columns, maps = taps_inside(h, kh), taps_inside(w, kw), n * channels
    is_alone, is_large = c <= facts.CHANNEL_BLOCK, n * image > CACHE
    # Neighbouring pixels of this many bytes apart share sets of the first cache.
    conflicts = math.gcd(c * way.dtype.itemsize, PAGE) / PAGE if way.channels_last else 0
    products = maps * rows * w * kw
    parts = (1e4, maps * h * w, maps * h * w * is_large, maps * rows * columns, maps * rows * kw, channels * kh * kw,
             products * is_alone, products * (c < channels), maps * rows * columns * is_large, products * conflicts)
    if way.kernel == 'transposed':
        # Pixels whose taps are all inside are computed in blocks; the rest of these, and those at the border, singly.
        inner = max(0, w - (kw - 1))
        singles, border = inner % facts.PIXEL_BLOCK, maps * rows * (columns - inner * kw)
        is_wide = kw > facts.WIDEST_FORWARD
        return (*parts, maps * rows * (inner - singles) * kw, maps * rows * singles * kw, border * is_wide,
                border * (not is_wide))
    # The channels-last forward is slow for rows of 9 to 13 taps, less so with two blocks of channels, and not at all
    # with one or three.
    slowdown = max(0, kw - 7) * (kw <= 13) * {1: 0.0, 2: 0.5, 3: 0.0}.get(channels // facts.CHANNEL_BLOCK, 1.0)
    return (*parts, products, products * slowdown, products * (kw > 13), maps * rows * w * w * (kw > w))


def _grad_weight_work(problem: Problem, way: Way) -> tuple[float, ...]:
    n, c, h, w, kh, kw = problem[:6]
    if way.kernel == 'pytorch':
        maps, few = n * _whole_blocks(c), kw <= 3 and kh <= h  # what PyTorch has a compiled kernel for
        products, is_wide = n * c * h * w * kh * kw * (not few), kw > facts.WIDEST_FORWARD
        parts = 1e4, maps * h * w, maps * taps_inside(h, kh) * w * kw * few, products, maps * kh * kw
        return (*parts, products * is_wide, products * c) if way.channels_last else parts
    maps = _whole_blocks(n * c)
    padded, (blocks, singles) = (h + kh - 1) * (w + kw - 1), divmod(kw, facts.PIXEL_BLOCK)
    return (1e4, maps * h * w, maps * padded, maps * h * w * kh * blocks, maps * h * w * kh * singles,
            maps * kh * h * (blocks + singles), maps * kh * h)


def _direct_work(what: str, problem: Problem, way: Way) -> tuple[float, ...]:
    """Counts vectors: of results along the columns of the map, or of the filter if that is what is computed."""
    n, c, h, w, kh, kw = problem[:6]
    pixels, vectors = n * c * h * w, -(-w // facts.LANES)
    is_large = pixels * way.dtype.itemsize > CACHE
    if what == 'grad_weight' and _is_along_the_map(problem, way):
        met = n * c * taps_inside(h, kh, problem.dy) * vectors
        return 1e4, n * c, pixels, met * kw, met, n * c * kh * kw, pixels * is_large
    columns, width = (w, kw) if what == 'convolve' else (kw, w)
    vectors = n * c * taps_inside(h, kh, problem.dy) * -(-columns // facts.LANES)
    products = vectors * -(-width // (2 if way.dtype == torch.bfloat16 and facts.HAS_BFLOAT16 else 1))
    # Those of a single vector are bound by loading, those of narrow filters by beginning.
    return 1e4, n * c, pixels, products, products * (columns <= facts.LANES), vectors, pixels * is_large


def _is_along_the_map(problem: Problem, way: Way) -> bool:
    dilation = problem.dy, problem.dx
    return direct.sums_along_the_map((problem.h, problem.w), (problem.kh, problem.kw), dilation, way.dtype)


def _fourier_work(problem: Problem) -> tuple[float, ...]:
    n, c, h, w, kh, kw = problem[:6]
    pixels = math.prod(fourier.transform_size((n, c, h, w), (kh, kw)))
    return 1e4, n * c * pixels, c * pixels, n * c * h * w


def _dilated_work(what: str, problem: Problem, way: Way) -> tuple[float, ...]:
    n, c, h, w, kh, kw = problem[:6]
    extent = problem.dy * (kh - 1) + 1, problem.dx * (kw - 1) + 1
    maps, pixels = n * _whole_blocks(c), n * c * h * w
    if what == 'grad_weight':
        is_small, products = extent[0] > h or extent[1] > w, pixels * kh * kw
        few = pixels * kh, products * is_small, products * c
        return 1e4, maps * h * w, maps * kh * kw, *(few if way.channels_last else (products, ))
    rows, columns = taps_inside(h, kh, problem.dy), taps_inside(w, kw, problem.dx)
    products, is_wide = maps * h * w * kh * kw, extent[1] > facts.WIDEST_FORWARD
    is_wide |= way.channels_last and extent[1] > w  # oneDNN has no kernel for these either
    is_large = pixels * way.dtype.itemsize > CACHE
    return (1e4, maps * h * w, maps * h * w * is_large, maps * rows * w * kw * (not is_wide),
            maps * rows * columns * (not is_wide), products * is_wide, maps * kh * kw * is_wide)


def _whole_blocks(channels: int) -> int:
    return -(-channels // facts.CHANNEL_BLOCK) * facts.CHANNEL_BLOCK


def is_slow_in_pytorch(problem: Problem, wants_grad_input: bool, wants_grad_weight: bool) -> bool:
    """Whether PyTorch takes longer than our ways in this dtype and format, the gradients that are wanted included."""
    passes = ['forward'] + ['grad_input'] * wants_grad_input + ['grad_weight'] * wants_grad_weight
    own, theirs = OVERHEAD + OVERHEAD_OF_GRADIENT * (len(passes) - 1), 0.0
    own *= torch.get_num_threads()
    for what in passes:
        name, inside = 'grad_weight' if what == 'grad_weight' else 'convolve', problem.inside()[1]
        own += cost(name, inside, cheapest(name, inside))
        theirs += _of_pytorch(what, problem)
        problem = problem._replace(channels_last=problem.wants_channels_last)
    return own < MARGIN * theirs


def _of_pytorch(what: str, problem: Problem) -> float:
    is_wide = problem.kw > facts.WIDEST_FORWARD and not problem.wants_channels_last and not problem.is_dilated
    if what == 'forward' and is_wide:  # what oneDNN's forward does not take
        return _price(f'im2col {str(problem.dtype).removeprefix("torch.")}', im2col_work(problem))
    return cost('grad_weight' if what == 'grad_weight' else 'convolve', problem, ways.pytorchs(what, problem))


@functools.cache
def taps_inside(extent: int, taps: int, dilation: int = 1) -> int:
    """Returns how many pairs of an output and an input a filter of ``taps`` connects on an axis of ``extent``."""
    return sum(max(0, extent - abs(offset) * dilation) for offset in range(-(taps // 2), taps // 2 + 1))


def _price(name: str, parts: tuple[float, ...]) -> float:
    prices = PRICES.get(PROCESSOR, {}).get(name)
    return float('inf') if prices is None else sum(price * part for price, part in zip(prices, parts, strict=True))


def im2col_work(problem: Problem) -> tuple[float, ...]:
    """Returns the parts of the work of PyTorch's own method, the maps and the products."""
    return problem.n * problem.c, math.prod(problem[:6])


def laying_out(problem: Problem) -> float:
    """Returns the cost of converting a map from one memory format to the other."""
    threads = torch.get_num_threads() if torch.get_num_threads() <= memory_format.MOST_THREADS else 1
    name = 'bfloat16' if problem.dtype in LOW_PRECISION else 'float32'
    return threads * _price(f'lay out {name}', laying_out_work(problem))


def laying_out_work(problem: Problem) -> tuple[float, ...]:
    """Returns the parts of the work of converting a map, whose images are copied one after the other if large."""
    n, pixels = problem.n, problem.c * problem.h * problem.w
    is_blocked = pixels >= memory_format.SMALLEST_BLOCKED
    return (1e4 * (not is_blocked), n * pixels * (not is_blocked), 1e4 * n * is_blocked, n * pixels * is_blocked,
            n * pixels * (n * pixels * problem.dtype.itemsize > CACHE))

