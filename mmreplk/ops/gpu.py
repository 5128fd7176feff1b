"""What the Triton kernels can compute, and the thresholds from which on they should be faster than PyTorch's own.

The two thresholds sum up the cost model, :mod:`mmreplk.ops.triton.cost`, over the sizes that networks have, on GPUs of
compute capability 8.0 to 10.0; a test checks that the two agree. Dilation makes no difference to the model.
"""

import math
from collections.abc import Sequence

# The fewest taps, by whether the filter is trained: PyTorch takes longest for its gradient. If it is not trained, 3x3
# kernels are left to PyTorch, which has special code for them.
SMALLEST_TAPS = {False: 25, True: 9}
# The least N * C * H * W * KH * KW, by the same: below it the launches cost more than all else.
SMALLEST_WORK = {False: 4e7, True: 1.5e7}
# How far a filter may reach to each side, in pixels: its gradient is computed from a window of this and a block of
# outputs, of which shared memory and registers hold at most 512 columns.
MOST_REACH = 240
# The kernels count rows and planes, and the values of a plane, in 32 bits.
MOST_COUNTED = 2**31 - 1


def why_too_large(shape: Sequence[int], reach: Sequence[int]) -> str | None:
    """Returns why the Triton kernels cannot take an input or a filter; None if they can.

    Args:
        shape: Of the input, ``(N, C, H, W)``.
        reach: Pixels that the filter reaches to each side, in y and x.
    """
    if max(reach) > MOST_REACH:
        return f'it needs filters that reach at most {MOST_REACH} pixels to each side, got {max(reach)}'
    n, c, h, w = shape
    h, w = h + 8, w + 8  # rows are padded to a multiple of 16 bytes; tall filters are computed on the transposed map
    if max(n * c, n * h, n * w, h * w) > MOST_COUNTED:
        return f'it needs N * C, N * H, N * W and H * W below 2^31, got {tuple(shape)}'
    return None


def gains(size: int, kernel_size: tuple[int, int], is_training: bool) -> bool:
    """Returns whether the Triton kernels should be faster.

    Args:
        size: Number of values in the input.
        kernel_size: Extent of the filters, ``(KH, KW)``.
        is_training: Whether the gradient of the filter will be needed.
    """
    taps = math.prod(kernel_size)
    return taps >= SMALLEST_TAPS[is_training] and size * taps >= SMALLEST_WORK[is_training]
