"""Two thresholds from which on the Triton kernels should be faster than PyTorch's own on a GPU.

They sum up the cost model, :mod:`mmreplk.ops.triton.cost`, over the sizes that networks have, on GPUs of compute
capability 8.0 to 10.0; a test checks that the two agree. Dilation makes no difference to the model.
"""

import math

# The fewest taps, by whether the filter is trained: PyTorch takes longest for its gradient. If it is not trained, 3x3
# kernels are left to PyTorch, which has special code for them.
SMALLEST_TAPS = {False: 25, True: 9}
# The least N * C * H * W * KH * KW, by the same: below it the launches cost more than all else.
SMALLEST_WORK = {False: 4e7, True: 1.5e7}


def gains(size: int, kernel_size: tuple[int, int], is_training: bool) -> bool:
    """Returns whether the Triton kernels should be faster.

    Args:
        size: Number of values in the input.
        kernel_size: Extent of the filters, ``(KH, KW)``.
        is_training: Whether the gradient of the filter will be needed.
    """
    taps = math.prod(kernel_size)
    return taps >= SMALLEST_TAPS[is_training] and size * taps >= SMALLEST_WORK[is_training]
