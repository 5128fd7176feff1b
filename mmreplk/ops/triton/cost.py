"""How long a pass should take: a model that ranks tiles, in cycles of four resources of a GPU.

A step of a program multiplies ``(m, k)`` by ``(k, n)``. It keeps the tensor cores, the schedulers, shared memory and
its share of L2 busy for a number of cycles each; the slowest of the four sets the pace. Peak rates are the vendors',
the rate of L2 is what is measured on an H100; instructions are fitted to counts in machine code. The benchmarks show
the model's predictions beside measurements.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

from . import tiles
from .tiles import ForwardTile, GradWeightTile, Problem


class Gpu(NamedTuple):
    """What a GPU does per cycle and SM, and how many SMs it has. ``capability``: 90 for compute capability 9.0."""
    capability: int
    sms: int
    ghz: float
    products: int  # of 2-byte operands, on tensor cores; half of it in TF32
    l2: int  # bytes
    hbm: float  # bytes a nanosecond, of the whole GPU
    shared_limit: int  # bytes of shared memory that a program may have

    @property
    def is_wgmma(self) -> bool:
        """Whether tensor cores read operands from shared memory themselves, by whole warp groups."""
        return self.capability // 10 in (9, 10)


# An A100, an RTX A6000, an L40S, an H100, a B200 and an RTX PRO 6000.
GPUS = {
    gpu.capability: gpu
    for gpu in [
        Gpu(80, 108, 1.41, 1024, 32, 1555, 163 * 1024),
        Gpu(86, 84, 1.80, 512, 24, 768, 99 * 1024),
        Gpu(89, 142, 2.52, 512, 16, 864, 99 * 1024),
        Gpu(90, 132, 1.755, 2048, 24, 3350, 227 * 1024),
        Gpu(100, 148, 1.85, 4096, 24, 8000, 227 * 1024),
        Gpu(120, 188, 2.40, 512, 16, 1790, 99 * 1024),
    ]
}
SHARED_RATE = 128  # bytes a cycle and SM
SCHEDULERS = 4
L2_LATENCY = 700  # cycles until an asynchronous copy has arrived
PROGRAM_CYCLES = 2500  # what a program takes besides its steps
LAUNCH_US = 3.


class Step(NamedTuple):
    """A step of a program: the bytes that it moves and the cycles of each resource."""
    l2_bytes: int
    shared_bytes: int
    mma: float
    issue: float
    shared: float
    l2: float

    @property
    def bound(self) -> str:
        """The resource that sets the pace."""
        cycles = self._asdict()
        return max(('mma', 'issue', 'shared', 'l2'), key=cycles.get)

    @property
    def cycles(self) -> float:
        return max(self[2:])


def step(gpu: Gpu, m: int, n: int, k: int, num_warps: int, itemsize: int, precision: str, instructions: float) -> Step:
    """Returns the cost of a step in which each of ``num_warps`` warps issues ``instructions``."""
    factors = 3 if precision.endswith('x3') else 1
    rate = gpu.products if itemsize == 2 or precision == 'bf16x3' else gpu.products / 2
    # Of the warps or warp groups that share a tile, each reads its own rows and all columns, or the other way round.
    groups = max(1, num_warps // 4)
    if gpu.is_wgmma:
        by_rows = 1 if gpu.capability >= 100 else min(groups, max(1, m // 64))
        by_columns = 1 if gpu.capability >= 100 else groups // by_rows
    else:
        by_rows, by_columns = (4, num_warps // 4) if num_warps >= 4 else (num_warps, 1)
    loaded = (m + n) * k * itemsize
    moved = loaded + (m * by_columns + n * by_rows) * k * itemsize
    return Step(loaded, moved, m * n * k * factors / rate, instructions * num_warps / SCHEDULERS,
                moved / SHARED_RATE, loaded / gpu.l2)


def instructions(gpu: Gpu, m: int, n: int, k: int, num_warps: int, itemsize: int, precision: str,
                 copies: float | None = None) -> float:
    """Estimates how many instructions a warp issues in a step: about 12 for each copy of 16 bytes.

    Below the ninth generation each warp also loads and multiplies fragments itself, and products of split operands are
    split in registers.
    """
    if copies is None:
        copies = (m + n) * k * itemsize / 16 / 32 / num_warps
    count = 40 + 12 * copies
    fragments = m * n * k / (16 * 8 * 32 / itemsize) / num_warps
    if precision.endswith('x3'):
        count += 11 * (m + n) * k / 32 / num_warps
        fragments *= 3
    return count if gpu.is_wgmma else count + fragments


def _time(gpu: Gpu, step_: Step, steps: int, programs: int, shared: int, num_stages: int, hbm_bytes: float) -> float:
    """Returns microseconds; infinity if ``shared`` bytes are more than a program may have."""
    if shared > gpu.shared_limit:
        return math.inf
    a_sm = -(-programs // gpu.sms)
    resident = max(1, min(a_sm, gpu.shared_limit // shared, 2))
    # One program alone waits for its copies; two overlap, also the start of one with the end of the other.
    cycles = max(step_.cycles, L2_LATENCY / (num_stages - 1) / resident)
    busy = a_sm * (steps * cycles + PROGRAM_CYCLES / resident) / gpu.ghz / 1e3
    return LAUNCH_US + max(busy, hbm_bytes / gpu.hbm / 1e3)


def forward_step(p: Problem, tile: ForwardTile, gpu: Gpu) -> Step:
    m = tile.depth * tile.block_x
    shape = m, tile.block_n, tile.block_k, tile.num_warps, p.itemsize, p.precision
    return step(gpu, *shape, instructions(gpu, *shape, copies=4 if tile.descriptors else None))


def forward(p: Problem, tile: ForwardTile, gpu: Gpu) -> float:
    """Predicts the microseconds of a forward pass, the filter's expansion included."""
    shape = tiles.geometry(p, tile)
    m, each = tile.depth * tile.block_x, tiles.stacks(p, tile.depth)
    if tile.descriptors:
        images, rows = tiles.split(tile.block_n, p.n, each // p.dy)
        blocks = -(-p.n // images) * -(-(each // p.dy) // rows) * p.dy
    else:
        blocks = -(-p.n * each // tile.block_n)
    programs = p.c * blocks * -(-p.w // tile.block_x)
    tape = p.c * shape.bands * shape.block_x * shape.width * p.itemsize
    values = 2 * p.n * p.c * p.h * p.w * p.itemsize
    # Rows are padded to whole stacks by a copy.
    padding = values if tile.descriptors and p.h % (tile.depth * p.dy) else 0
    shared = tile.num_stages * (m + tile.block_n) * tile.block_k * p.itemsize
    # A step reads its bands from L2, and the window of a block's rows; expansions stay in L2.
    pace = forward_step(p, tile, gpu)
    steps = -(-shape.rows * shape.width // tile.block_k)
    expansion = LAUNCH_US + tape / (gpu.l2 * gpu.sms * gpu.ghz * 1e3)
    return expansion + _time(gpu, pace, steps, programs, shared, tile.num_stages, values) + padding / gpu.hbm / 1e3


def grad_weight_step(p: Problem, tile: GradWeightTile, gpu: Gpu) -> Step:
    m, n = _grad_weight_block(p, tile)
    if tile.descriptors:  # the roles are exchanged: the rows of the product are those of the gradient
        shape = n, m, tile.block_k, tile.num_warps, p.itemsize, p.precision
        return step(gpu, *shape, instructions(gpu, *shape, copies=2 + tile.depth_in * (1.5 + tile.block_k / 24)))
    shape = m, n, tile.block_k, tile.num_warps, p.itemsize, p.precision
    return step(gpu, *shape, instructions(gpu, *shape))


def _grad_weight_block(p: Problem, tile: GradWeightTile) -> tuple[int, int]:
    """Returns the size of the product of a program: of windows of the input, and of the gradient."""
    return tile.depth_in * tiles.power_of_2(tiles.window(p, tile.block_x).width), tile.depth * tile.block_x


def grad_weight(p: Problem, tile: GradWeightTile, gpu: Gpu) -> float:
    """Predicts the microseconds of the gradient of the filter, the sum of the partial results included."""
    m, n = _grad_weight_block(p, tile)
    rows = tiles.round_up(p.kh + tile.depth - 1, tile.depth_in)
    each = tiles.stacks(p, tile.depth) // p.dy
    images, of_each = tiles.split(tile.block_k, p.n, each)
    steps = -(-p.n // images) * -(-each // of_each) * p.dy * -(-p.w // tile.block_x)
    shared = tile.num_stages * (m + n) * tile.block_k * p.itemsize
    pace = grad_weight_step(p, tile, gpu)
    partial = p.c * rows * tile.depth * tiles.power_of_2(p.kw) * 4
    values = 2 * p.n * p.c * p.h * p.w * p.itemsize
    # Descriptors need whole stacks, and those of the gradient next to each other.
    pads, arranges = p.h % (tile.depth * p.dy) > 0, p.dy > 1 or p.w != tile.block_x
    copied = values * (pads + (pads + arranges) / 2) if tile.descriptors else 0
    total = _time(gpu, pace, steps, p.c * rows // tile.depth_in, shared, tile.num_stages, values + partial)
    return total + LAUNCH_US + (partial + copied) / gpu.hbm / 1e3


def pytorch(p: Problem, what: str, gpu: Gpu) -> float:
    """Predicts the microseconds of PyTorch's own depthwise kernels, ``what`` being a pass.

    They use no tensor cores: a thread takes about 9 instructions for each tap of an output, plus 30. The gradient of
    the filter has a block of threads for each tap, and takes about 40 instructions for each product.
    """
    outputs = p.n * p.c * p.h * p.w
    each = 40 * p.kh * p.kw if what == 'grad_weight' else 30 + 9 * p.kh * p.kw
    busy = outputs * each / (32 * SCHEDULERS * gpu.sms * gpu.ghz * 1e3)
    return LAUNCH_US + max(busy, 2 * outputs * p.itemsize / gpu.hbm / 1e3)


@functools.lru_cache(maxsize=1024)
def forward_tiles(p: Problem, gpu: Gpu) -> list[ForwardTile]:
    """Returns the tiles to measure. The first is taken if none is measured, and never has descriptors."""
    # Where warps load fragments themselves, accumulators may have half of the registers.
    found = [t for t in tiles.forward_tiles(p) if gpu.is_wgmma or t.block_n <= 16 * t.num_warps]
    predict = functools.partial(forward, p)
    best = _ranked([t for t in found if not t.descriptors], predict, gpu, 7)
    return best + (_ranked([t for t in found if t.descriptors], predict, gpu, 5) if gpu.capability >= 90 else [])


@functools.lru_cache(maxsize=1024)
def grad_weight_tiles(p: Problem, gpu: Gpu) -> list[GradWeightTile]:
    """Returns the tiles to measure. The first is taken if none is measured; it has no descriptors, nor may it spill."""
    predict = functools.partial(grad_weight, p)
    every = tiles.grad_weight_tiles(p)
    found, described = ([t for t in every if t.descriptors == d] for d in (False, True))
    best = _ranked([t for t in found if t.depth * t.block_x <= 128], predict, gpu, 5)
    best += _ranked([t for t in found if t.depth * t.block_x > 128], predict, gpu, 2) if gpu.is_wgmma else []
    return best + (_ranked(described, predict, gpu, 4) if gpu.capability >= 90 else [])


def _ranked(found: list, predict: Callable, gpu: Gpu, count: int) -> list:
    times = {tile: predict(tile, gpu) for tile in found}
    return sorted((tile for tile in times if times[tile] < math.inf), key=times.get)[:count]
