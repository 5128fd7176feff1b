"""How the work can be cut: the tiles of the Triton kernels, and the windows and steps that follow from them.

Letters: input ``(N, C, H, W)``, filter ``(KH, KW)``, dilation ``(DY, DX)``. Which tile is taken is for
:mod:`mmreplk.ops.triton.cost` to say.
"""

import itertools
import math
from typing import NamedTuple

ALIGN = 8  # columns: 16 bytes of a 2-byte dtype, what one asynchronous copy moves
MAX_BOX = 256  # extent of a block that the tensor memory accelerator moves, in elements


class Problem(NamedTuple):
    """What a choice of tiles depends on. ``w`` is a multiple of ALIGN; ``precision`` as ``tl.dot`` names it."""
    n: int
    c: int
    h: int
    w: int
    kh: int
    kw: int
    dy: int = 1
    dx: int = 1
    itemsize: int = 2
    precision: str = 'tf32'


class ForwardTile(NamedTuple):
    """``depth`` x ``block_x`` outputs by ``block_n`` stacks of rows, ``block_k`` products a step.

    With ``descriptors`` inputs are loaded through tensor descriptors, one row of the window a step.
    """
    block_x: int
    depth: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    descriptors: bool = False


class GradWeightTile(NamedTuple):
    """``depth_in`` input rows by ``depth`` rows of gradient, each ``block_x`` wide, ``block_k`` stacks a step.

    With ``descriptors`` operands are loaded through tensor descriptors, each input row on its own.
    """
    block_x: int
    depth_in: int
    depth: int
    block_k: int
    num_warps: int
    num_stages: int
    descriptors: bool = False


class Window(NamedTuple):
    """The input columns that a block of outputs reads: ``width`` of them, from ``left`` columns before it."""
    left: int
    width: int


class Geometry(NamedTuple):
    """How a filter is laid out for a forward tile. ``rows``: input rows that a stack of outputs reads."""
    left: int
    width: int
    block_x: int
    depth: int
    rows: int

    @property
    def bands(self) -> int:
        return self.rows + self.depth - 1


def window(p: Problem, block_x: int) -> Window:
    """Returns the window of a block: the whole map if one block covers it."""
    if p.w <= block_x:
        return Window(0, block_x)
    reach = p.kw // 2 * p.dx
    left = round_up(reach, ALIGN)
    return Window(left, round_up(left + block_x + reach, 16))


def geometry(p: Problem, tile: ForwardTile) -> Geometry:
    """Returns the geometry, with enough rows for ``rows * width`` to be whole steps of the tile."""
    left, width = window(p, tile.block_x)
    if tile.descriptors:
        return Geometry(left, power_of_2(width), tile.block_x, tile.depth, p.kh + tile.depth - 1)
    multiple = tile.block_k // math.gcd(width, tile.block_k)
    return Geometry(left, width, tile.block_x, tile.depth, round_up(p.kh + tile.depth - 1, multiple))


def stacks(p: Problem, depth: int) -> int:
    """Returns how many stacks of ``depth`` rows, ``p.dy`` apart, cover a map."""
    return cdiv(p.h, depth * p.dy) * p.dy


def split(block: int, images: int, per_image: int) -> tuple[int, int]:
    """Returns how ``block``, a power of two, is cut into images and stacks of each, so that least of it is empty."""
    cuts = [(block >> i, 1 << i) for i in range(block.bit_length())]
    return min(reversed(cuts), key=lambda cut: round_up(images, cut[0]) * round_up(per_image, cut[1]))


def forward_tiles(p: Problem) -> list[ForwardTile]:
    """Returns all tiles that could be worth a try.

    Accumulators of 128 x 256 are the most that 8 warps can hold, 128 x 128 beside operands of 4 bytes, 128 x 64 where
    these are split. A step is 128 bytes of the reduction, or one row of the window with descriptors.
    """
    most_columns = 256 if p.itemsize == 2 else 64 if p.precision.endswith('x3') else 128
    block_k = 128 // p.itemsize
    most_stacks = power_of_2(p.n * stacks(p, 1))
    found = []
    blocks = itertools.product((16, 32, 64), (64, 128), (16, 32, 64, 128, 256), (3, 4))
    for block_x, m, block_n, num_stages in blocks:
        if block_x > max(16, power_of_2(p.w)) or block_n > min(most_stacks, most_columns):
            continue
        tile = ForwardTile(block_x, m // block_x, block_n, block_k, 8 if m * block_n >= 128 * 64 else 4, num_stages)
        found.append(tile)
        with_descriptors = tile._replace(descriptors=True, block_k=geometry(p, tile._replace(descriptors=True)).width)
        if p.itemsize == 2 and with_descriptors.block_k <= MAX_BOX:
            found.append(with_descriptors)
    return found


def grad_weight_tiles(p: Problem) -> list[GradWeightTile]:
    """Returns all tiles that could be worth a try; the window is padded to a power of two here.

    There is one for every filter that :func:`mmreplk.ops.gpu.why_too_large` lets through.
    """
    found, most_columns = [], 256 if p.itemsize == 2 else 64 if p.precision == 'tf32x3' else 128
    for block_x, n, num_stages in itertools.product((16, 32, 64), (64, 128, 256), (3, 4, 2)):
        width = power_of_2(window(p, block_x).width)
        if num_stages == 2 and width < 256:  # the shared memory of consumer cards holds three of any other window
            continue
        if block_x > power_of_2(p.w) or n < block_x or n > most_columns:
            continue
        depth_in = max(1, 128 // width)
        # Windows of filters wider than 65 are wider than 128.
        if depth_in * width * n > 128 * 256:
            continue
        most = power_of_2(p.n * stacks(p, n // block_x))
        block_k = max(16, min(128 // p.itemsize * 128 // (depth_in * width), most))
        num_warps = 8 if n >= 128 or depth_in * width * n > 128 * 128 or p.precision == 'tf32x3' else 4
        found.append(GradWeightTile(block_x, depth_in, n // block_x, block_k, num_warps, num_stages))
        if p.itemsize == 2 and n <= 128 and width <= MAX_BOX:
            # Each input row is a load and a product of its own: more than eight are more code than work.
            rows = {rows for rows in (128 // width, 256 // width) if 1 <= rows <= 8}
            found += [GradWeightTile(block_x, depth_in, n // block_x, min(k, most), num_warps, num_stages, True)
                      for depth_in, k in itertools.product(sorted(rows), (64, 128))]
    return found


def cdiv(value: int, by: int) -> int:
    """Returns the quotient rounded up. ``triton.cdiv``, made for kernels, takes a third of a launch."""
    return -(-value // by)


def round_up(value: int, multiple: int) -> int:
    return cdiv(value, multiple) * multiple


def power_of_2(value: int) -> int:
    """Returns the smallest power of two that is no smaller than ``value`` and 16, the least that tensor cores take."""
    return max(16, 1 << max(0, value - 1).bit_length())
