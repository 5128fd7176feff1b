"""Stands in for the module of this name in RepLKNet's official CUDA extension, with mmreplk's operator."""

from mmreplk.layers import LargeKernelConv2d

__all__ = ['DepthWiseConv2dImplicitGEMM']


class DepthWiseConv2dImplicitGEMM(LargeKernelConv2d):
    """A depthwise convolution that keeps the size of the map, in every floating dtype, on CPUs and GPUs.

    It has the constructor and the state dict of the official one. Its ``padding`` is what it really pads, where the
    official one has 0.

    Args:
        channels: Channels of input and output.
        kernel: Odd kernel size, an integer or a pair of height and width.
        bias: Whether to add one.

    Raises:
        ValueError: If a kernel size is even.
    """

    def __init__(self, channels: int, kernel: int | tuple[int, int], bias: bool = False):
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        if height % 2 == 0 or width % 2 == 0:
            raise ValueError(f'kernel must be odd, or a pair of odd numbers, got {kernel!r}')
        super().__init__(channels, channels, (height, width), padding=(height // 2, width // 2), groups=channels,
                         bias=bias)
