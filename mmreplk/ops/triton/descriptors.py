"""The forward pass on tensor descriptors: the tensor memory accelerator computes addresses and pads with zeros.

The product of :mod:`mmreplk.ops.triton.forward`, one input row ``r`` a step. The input is described as
``(N, C, H / P, P, W)`` with ``P = DEPTH * DY`` rows a period: row ``r`` of the stacks ``(n, g)`` is one row of the
period ``g`` or of one further up or down, the same for all of them, so that a block of stacks is a block of the
description. Coordinates outside are filled with zeros, so no mask is left in the loop.
"""

import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from . import tiles


def launch(
    x: Tensor,
    tape: Tensor,
    bias: Tensor | None,
    out: Tensor,
    relu: bool,
    problem: tiles.Problem,
    tile: tiles.ForwardTile,
    shape: tiles.Geometry,
) -> None:
    """Writes the convolution of ``x`` with the filters of ``tape`` to ``out``, all of them contiguous and aligned."""
    n, c, h, w, kh, _, dy, *_ = problem
    period = tile.depth * dy
    if h % period:  # F.pad copies even where it adds nothing
        x = F.pad(x, (0, 0, 0, -h % period))
    groups = x.shape[2] // period
    block_n, block_g = tiles.split(tile.block_n, n, groups)
    rows = TensorDescriptor.from_tensor(x.view(n, c, groups, period, w), [block_n, 1, block_g, 1, shape.width])
    bands = TensorDescriptor.from_tensor(tape.view(-1, shape.width), [tile.depth * tile.block_x, shape.width])
    grid = triton.cdiv(n, block_n) * triton.cdiv(groups, block_g) * dy * triton.cdiv(w, tile.block_x) * c
    descriptor_kernel[grid, ](
        rows, bands, bias, out, n, c, h, w // tiles.ALIGN, KH=kh, DY=dy, ROWS=shape.rows, LEFT=shape.left,
        WIDTH=shape.width, RELU=relu, ALIGN=tiles.ALIGN, BLOCK_X=tile.block_x, DEPTH=tile.depth, BLOCK_N=block_n,
        BLOCK_G=block_g, num_warps=tile.num_warps, num_stages=tile.num_stages)


@triton.jit(do_not_specialize=['N', 'C', 'H', 'W_ALIGNED'])
def descriptor_kernel(
    x_desc,
    tape_desc,
    bias_ptr,
    out_ptr,
    N,
    C,
    H,
    W_ALIGNED,
    KH: tl.constexpr,
    DY: tl.constexpr,
    ROWS: tl.constexpr,
    LEFT: tl.constexpr,
    WIDTH: tl.constexpr,
    RELU: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_X: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_G: tl.constexpr,
):
    W = W_ALIGNED * ALIGN  # tells the compiler that rows start on 16 bytes
    PERIOD: tl.constexpr = DEPTH * DY
    BACK: tl.constexpr = (KH // 2 * DY + PERIOD - 1) // PERIOD  # periods that the first input row lies further up
    n_blocks, g_blocks, x_blocks = tl.cdiv(N, BLOCK_N), tl.cdiv(tl.cdiv(H, PERIOD), BLOCK_G), tl.cdiv(W, BLOCK_X)
    pid = tl.program_id(0)
    s, g0 = pid % DY, pid // DY % g_blocks * BLOCK_G  # the phase s of dilation, and the stacks
    block = pid // (DY * g_blocks)
    n0, x0, c = block % n_blocks * BLOCK_N, block // n_blocks % x_blocks * BLOCK_X, block // (n_blocks * x_blocks)
    first_band = c * ((ROWS + DEPTH - 1) * BLOCK_X)

    acc = tl.zeros((DEPTH * BLOCK_X, BLOCK_N * BLOCK_G), tl.float32)
    for r in range(ROWS):
        y = (r - KH // 2) * DY + s + BACK * PERIOD  # never negative
        band = tape_desc.load([first_band + (ROWS - 1 - r) * BLOCK_X, 0])  # (M, WIDTH)
        rows = x_desc.load([n0, c, g0 + y // PERIOD - BACK, y % PERIOD, x0 - LEFT])
        acc = tl.dot(band, rows.reshape(BLOCK_N * BLOCK_G, WIDTH).T, acc)

    if bias_ptr is not None:
        acc += tl.load(bias_ptr + c).to(tl.float32)
    if RELU:
        acc = tl.where(acc < 0, 0.0, acc)  # keeps NaN, as torch.relu does
    m, k = tl.arange(0, DEPTH * BLOCK_X), tl.arange(0, BLOCK_N * BLOCK_G)
    n, y0 = n0 + k // BLOCK_G, (g0 + k % BLOCK_G) * PERIOD + s
    y, x = y0[None, :] + (m // BLOCK_X * DY)[:, None], (x0 + m % BLOCK_X)[:, None]
    inside = (n < N)[None, :] & (y < H) & (x < W)
    plane = (n * C + c).to(tl.int64) * (H * W)
    tl.store(out_ptr + plane[None, :] + y * W + x, acc.to(out_ptr.dtype.element_ty), mask=inside)
