"""The three passes of the fast path, by the device of the operands.

``channels_last`` is the exact memory format of a pass's result: the strides of operands with axes of size one do not
show which one is wanted. Triton launches on the current device, which need not be that of the tensors, and its kernels
take and return contiguous tensors.
"""

import torch
from torch import Tensor

from . import cpu, memory_format

Pair = tuple[int, int]


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, stride: Pair, padding: Pair, dilation: Pair,
            channels_last: bool) -> Tensor:
    """Returns the convolution, with ReLU at its end if ``relu``."""
    if x.is_cuda:
        from . import triton
        with torch.cuda.device_of(x):
            return memory_format.laid_out(triton.forward(x, weight, bias, relu, dilation=dilation), channels_last)
    out = cpu.forward(x, weight, bias, stride, padding, dilation, channels_last)
    return out.relu_() if relu else out


def grad_input(grad_output: Tensor, weight: Tensor, size: Pair, stride: Pair, padding: Pair, dilation: Pair,
               channels_last: bool) -> Tensor:
    """Returns the gradient with respect to the input, of ``size (H, W)``."""
    if grad_output.is_cuda:
        from . import triton
        with torch.cuda.device_of(grad_output):
            return memory_format.laid_out(triton.grad_input(grad_output, weight, dilation), channels_last)
    return cpu.grad_input(grad_output, weight, size, stride, padding, dilation, channels_last)


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair,
                channels_last: bool) -> Tensor:
    """Returns the gradient with respect to the filter, ``(C, 1, KH, KW)``."""
    if x.is_cuda:
        from . import triton
        with torch.cuda.device_of(x):
            grad = triton.grad_weight(x, grad_output, kernel_size, dilation)
            return memory_format.laid_out(grad, channels_last)
    return cpu.grad_weight(x, grad_output, kernel_size, stride, padding, dilation, channels_last)
