"""The three passes of a "same", stride-1 depthwise convolution on x86 CPUs, each on oneDNN's compiled kernels.

oneDNN's compiled depthwise *forward* refuses padding wider than its register block and falls back to im2col, and
PyTorch's weight gradient is slow from 5x5 on, while the compiled *backward-data*, which PyTorch reaches through
``conv_transpose2d``, has no such limits. With an odd kernel and "same" padding a convolution is the transposed
convolution with the flipped filter, so the slow passes are written as one. Shapes: ``x`` and ``grad_output``
``(N, C, H, W)``, ``weight`` ``(C, 1, KH, KW)``.

bfloat16 and float16 are computed in float32, because oneDNN accumulates these kernels too coarsely in bfloat16.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# The largest kernel extent that oneDNN's forward takes, by instruction set; None where there is no such kernel.
LARGEST_FORWARD = {'AVX2': 9, 'AVX512': 13}.get(torch.backends.cpu.get_cpu_capability()) \
    if torch.backends.mkldnn.is_available() else None
# The smallest kernel extent whose weight gradient is faster as a transposed convolution than in PyTorch.
SMALLEST_GRAD_WEIGHT = 5

_in_float32 = torch.autocast('cpu', enabled=False)


@_in_float32
def forward(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns the convolution of ``x`` with ``weight``, plus ``bias (C,)``; contiguous, in the dtype of ``x``."""
    kh, kw = weight.shape[-2:]
    is_direct = max(kh, kw) <= LARGEST_FORWARD
    convolve = F.conv2d if is_direct else F.conv_transpose2d
    out = convolve(
        x.float().contiguous(),
        weight.float() if is_direct else weight.float().flip(-1, -2),
        None if bias is None else bias.float(),
        padding=(kh // 2, kw // 2),
        groups=weight.shape[0])
    return out.to(x.dtype)


@_in_float32
def grad_input(grad_output: Tensor, weight: Tensor) -> Tensor:
    """Returns the gradient with respect to ``x``; contiguous, in the dtype of ``grad_output``."""
    kh, kw = weight.shape[-2:]
    grad = F.conv_transpose2d(
        grad_output.float().contiguous(), weight.float(), padding=(kh // 2, kw // 2), groups=weight.shape[0])
    return grad.to(grad_output.dtype)


@_in_float32
def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Returns the gradient with respect to ``weight``, ``(C, 1, KH, KW)``, in the dtype of ``x``.

    It is the correlation of the padded input with ``grad_output``, which here takes the place of the filter: one
    large filter for every image and channel.
    """
    (n, c, h, w), (kh, kw) = x.shape, kernel_size
    padded = F.pad(x.float(), (kw // 2, kw // 2, kh // 2, kh // 2))
    grad = F.conv_transpose2d(
        padded.reshape(1, n * c, *padded.shape[-2:]),
        grad_output.float().reshape(n * c, 1, h, w).flip(-1, -2),
        padding=(h - 1, w - 1),
        groups=n * c)
    return grad.view(n, c, 1, kh, kw).sum(0).to(x.dtype)
