"""A filter as the banded Toeplitz matrix that turns a row of the convolution into a row of a matrix product.

A block of BLOCK_X outputs reads a window of WIDTH inputs. Output ``xi`` takes input ``x`` of the window times
``weight[c, ky, kx]`` where ``kx * DX = x - xi - LEFT + KW // 2 * DX``, and zero where no tap is: a ``(BLOCK_X, WIDTH)``
band for each ``ky``. The tape is all of them on top of each other, from the last ``ky`` to the first, with enough zero
bands at both ends for DEPTH output rows to share every input row: the bands of input row ``r`` for output rows
``0 .. DEPTH - 1`` (``ky = r - row``) are then one contiguous block of the tape, which starts one band earlier for each
further ``r``. Rows are DY apart, which the tape need not know.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tiles import Geometry, cdiv

BLOCK = 1024


def tape(weight: Tensor, dtype: torch.dtype, shape: Geometry, dilation: int, flip: bool, transpose: bool) -> Tensor:
    """Returns the tape of ``weight (C, 1, KH, KW)`` in ``dtype``, transposed and turned by 180 degrees if asked.

    Args:
        weight: The filters.
        dtype: That of the result.
        shape: How they are laid out.
        dilation: Step between taps of a row, DX.
        flip: Whether to turn them by 180 degrees.
        transpose: Whether rows of the filter are columns of the convolution.

    Returns:
        ``(C, bands, block_x, width)``.
    """
    kh, kw = weight.shape[:1:-1] if transpose else weight.shape[2:]
    out = weight.new_empty(weight.shape[0], shape.bands, shape.block_x, shape.width, dtype=dtype)
    tape_kernel[weight.shape[0], cdiv(out[0].numel(), BLOCK)](
        weight.contiguous(), out, KH=kh, KW=kw, DX=dilation, FLIP=flip, TRANSPOSE=transpose, LEFT=shape.left,
        WIDTH=shape.width, BLOCK_X=shape.block_x, BANDS=shape.bands, ROWS=shape.rows, BLOCK=BLOCK)
    return out


@triton.jit
def tape_kernel(
    weight_ptr,
    tape_ptr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    DX: tl.constexpr,
    FLIP: tl.constexpr,
    TRANSPOSE: tl.constexpr,
    LEFT: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_X: tl.constexpr,
    BANDS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    c = tl.program_id(0).to(tl.int64)
    element = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    band, xi, x = element // WIDTH // BLOCK_X, element // WIDTH % BLOCK_X, element % WIDTH
    ky, offset = ROWS - 1 - band, x - xi - LEFT + KW // 2 * DX
    kx = offset // DX
    inside = (ky >= 0) & (ky < KH) & (offset >= 0) & (offset % DX == 0) & (kx < KW)
    if FLIP:
        ky, kx = KH - 1 - ky, KW - 1 - kx
    offset = kx * KH + ky if TRANSPOSE else ky * KW + kx
    tap = tl.load(weight_ptr + c * (KH * KW) + offset, mask=inside, other=0)
    is_own = element < BANDS * BLOCK_X * WIDTH
    tl.store(tape_ptr + c * (BANDS * BLOCK_X * WIDTH) + element, tap.to(tape_ptr.dtype.element_ty), mask=is_own)
