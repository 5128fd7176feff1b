"""What PyTorch and oneDNN can do on this CPU, and what they get wrong."""

import math

import torch
from torch import Tensor

from ..memory_format import is_channels_last

INSTRUCTIONS = torch.backends.cpu.get_cpu_capability() if torch.backends.mkldnn.is_available() else 'none'
IS_SUPPORTED = INSTRUCTIONS in ('AVX2', 'AVX512')
HAS_FOURIER = torch.backends.mkl.is_available()
# The dtypes that PyTorch does not leave to oneDNN on this CPU: it is many times slower, with imprecise gradients.
SLOW_DTYPES = {
    dtype
    for dtype, name in ((torch.bfloat16, 'bf16'), (torch.float16, 'fp16'))
    if IS_SUPPORTED and not getattr(torch.ops.mkldnn, f'_is_mkldnn_{name}_supported')()
}
_capabilities = getattr(torch.cpu, 'get_capabilities', dict)()
# Whether oneDNN has instructions for bfloat16; it takes it without them too, but slower than float32.
HAS_BFLOAT16 = IS_SUPPORTED and torch.bfloat16 not in SLOW_DTYPES and _capabilities.get('avx512_bf16', False)
HAS_AMX = HAS_BFLOAT16 and _capabilities.get('amx_bf16', False)
# The widest kernel, dilation included, that oneDNN's forward takes on contiguous tensors, of any height; wider ones
# fall back to im2col.
WIDEST_FORWARD = {'AVX2': 9, 'AVX512': 13}.get(INSTRUCTIONS, math.inf)
# The largest size for which PyTorch's weight gradient is right: in 2.13, that of 51x1, 51x3 and longer kernels is wrong
# by tens of per cent on maps higher than the kernel.
LARGEST_SOUND = 49
# The largest size to give PyTorch with a single channel, which it does not treat as depthwise: in 2.13, 45x13 and 49x2
# at stride (1, 2) write past their memory.
LARGEST_SOUND_ALONE = 13
# The numbers in a vector of float32.
LANES = 16 if INSTRUCTIONS == 'AVX512' else 8
# Channels that oneDNN's kernels compute together.
CHANNEL_BLOCK = 16
# Pixels of a row that its backward-data kernel computes together; what remains of a row it computes one by one.
PIXEL_BLOCK = 6 if INSTRUCTIONS == 'AVX512' else 4


def may_never_return(x: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether PyTorch's convolution in ``dtype`` may never return.

    In PyTorch 2.13, this happens in bfloat16, if ``x`` or ``weight`` is channels-last, for filters wider than
    WIDEST_FORWARD and up to CHANNEL_BLOCK channels: for (1, 3, 11, 36) with 9x23, but not with 23x9.
    """
    return (dtype == torch.bfloat16 and x.shape[1] <= CHANNEL_BLOCK and weight.shape[3] > WIDEST_FORWARD and
            (is_channels_last(x) or is_channels_last(weight)))


def is_wrong(x: Tensor, weight: Tensor, dtype: torch.dtype, dilation: tuple[int, int], is_training: bool) -> bool:
    """Whether PyTorch's convolution in ``dtype``, or its weight gradient if ``is_training``, may be wrong.

    The weight gradient of a dilated kernel in bfloat16 on channels-last tensors is garbage in PyTorch 2.13, for example
    that of (1, 5, 27, 30) with 4x4 at dilation 4.
    """
    size = max(weight.shape[2:])
    if weight.shape[0] == 1 and size > LARGEST_SOUND_ALONE:
        return True
    return is_training and (size > LARGEST_SOUND or (dtype == torch.bfloat16 and max(dilation) > 1 and
                                                     (is_channels_last(x) or is_channels_last(weight))))
