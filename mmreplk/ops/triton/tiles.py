"""How the work is cut: the tiles of the Triton kernels, as data, and the windows that follow from them.

The first tile of a list is the default. Three facts shape them all:

- 128 x 128 accumulators on 8 warps: 64 operations for each byte loaded from L2, and no spills. Three-product float32,
  which holds its operands twice, takes 64 columns in the forward pass.
- 96 KB of shared memory at most by default, so that they fit every GPU from compute capability 8.0 on (99 KB on the
  consumer cards) and two programs share an H100. What tuning adds may be larger; what does not fit is passed over.
- A map no wider than 32 is taken whole: the window then holds only taps inside the map. On wider maps blocks of 16
  columns waste least: a 31-wide filter fills 31 of 48 columns of the window, against 31 of 64 for blocks of 32.
"""

from typing import NamedTuple

ALIGN = 8  # columns: 16 bytes of a 2-byte dtype, what one asynchronous copy moves


class ForwardTile(NamedTuple):
    """``depth`` x ``block_x`` outputs by ``block_n`` stacks of rows, ``block_k`` products a step."""
    block_x: int
    depth: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int


class GradWeightTile(NamedTuple):
    """``depth_in`` input rows by ``depth`` rows of gradient, each ``block_x`` wide, ``block_k`` stacks a step."""
    block_x: int
    depth_in: int
    depth: int
    block_k: int
    num_warps: int
    num_stages: int


class Window(NamedTuple):
    """The input columns that a block of outputs reads: ``width`` of them, from ``left`` columns before it."""
    left: int
    width: int


def window(columns: int, kernel_width: int, block_x: int) -> Window:
    """Returns the window for a map of ``columns``: the whole map if one block covers it."""
    if columns <= block_x:
        return Window(0, block_x)
    left = round_up(kernel_width // 2, ALIGN)
    return Window(left, round_up(left + block_x + kernel_width // 2, 16))


def forward_tiles(rows: int, columns: int, itemsize: int, precision: str) -> list[ForwardTile]:
    """Returns tiles for ``N * H = rows`` and ``W = columns``."""
    block_x = 32 if 16 < columns <= 32 else 16
    depth = 128 // block_x
    block_n = min(64 if precision == 'tf32x3' else 128, power_of_2(rows // depth))
    block_k = 128 // itemsize
    default = ForwardTile(block_x, depth, block_n, block_k, 8 if block_n >= 32 else 4, 3)
    return [
        default,
        default._replace(num_stages=4),
        default._replace(block_k=block_k // 2, num_stages=4),
        default._replace(block_n=max(16, block_n // 2)),
        default._replace(block_n=block_n * 2),
        default._replace(depth=depth * 2),
        default._replace(block_x=32, depth=4),
    ]


def grad_weight_tiles(rows: int, columns: int, kernel_width: int, itemsize: int) -> list[GradWeightTile]:
    """Returns tiles for ``N * H = rows`` and ``W = columns``; here the window is padded to a power of two."""
    block_x = next((b for b in (16, 32, 64) if columns <= b), 32)
    width = power_of_2(window(columns, kernel_width, block_x).width)
    depth_in = max(1, 128 // width)
    depth = max(1, 128 * 128 // (depth_in * width * block_x))
    # Windows of filters wider than 65 are wider than 128.
    block_k = max(16, min(128 // itemsize * 128 // (depth_in * width), power_of_2(rows // depth)))
    default = GradWeightTile(block_x, depth_in, depth, block_k, 8, 3)
    return [
        default,
        default._replace(num_stages=4),
        default._replace(block_k=max(16, block_k // 2), num_stages=4),
        default._replace(depth=max(1, depth // 2), num_warps=4),
    ]


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def power_of_2(value: int) -> int:
    """Returns the smallest power of two that is no smaller than ``value`` and 16, the least that tensor cores take."""
    return max(16, 1 << max(0, value - 1).bit_length())
