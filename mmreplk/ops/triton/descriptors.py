"""All passes on tensor descriptors: the tensor memory accelerator computes addresses and pads with zeros.

The products of :mod:`mmreplk.ops.triton.forward` and :mod:`mmreplk.ops.triton.grad_weight`. The input is described as
``(N, C, H / P, P, W)`` with ``P = DEPTH * DY`` rows a period: row ``r`` of the stacks ``(n, g)`` is one row of the
period ``g`` or of one further up or down, the same for all of them, so that a block of stacks is a block of the
description. Coordinates outside are filled with zeros, so no mask is left in the loop. A box has one such row, because
the tensor cores could not read several of them from shared memory as one operand.

The forward pass takes one row ``r`` a step. The gradient of the filter takes DEPTH_IN of them, each a product of its
own with the same block of ``grad_output``, whose stacks are made contiguous first, ``(N, C, H / P, DY, W / BLOCK_X,
DEPTH * BLOCK_X)``: a copy, except of maps of one block of columns.
"""

import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from . import tiles


def forward(
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
    x = _in_periods(x, tile.depth * dy)
    groups = x.shape[2]
    block_n, block_g = tiles.split(tile.block_n, n, groups)
    rows = TensorDescriptor.from_tensor(x, [block_n, 1, block_g, 1, shape.width])
    bands = TensorDescriptor.from_tensor(tape.view(-1, shape.width), [tile.depth * tile.block_x, shape.width])
    grid = tiles.cdiv(n, block_n) * tiles.cdiv(groups, block_g) * dy * tiles.cdiv(w, tile.block_x) * c
    descriptor_forward_kernel[grid, ](
        rows, bands, bias, out, n, c, h, w // tiles.ALIGN, KH=kh, DY=dy, ROWS=shape.rows, LEFT=shape.left,
        WIDTH=shape.width, RELU=relu, ALIGN=tiles.ALIGN, BLOCK_X=tile.block_x, DEPTH=tile.depth, BLOCK_N=block_n,
        BLOCK_G=block_g, num_warps=tile.num_warps, num_stages=tile.num_stages)


def grad_weight(
    x: Tensor,
    grad_output: Tensor,
    partial: Tensor,
    problem: tiles.Problem,
    tile: tiles.GradWeightTile,
) -> None:
    """Writes the sums along diagonals, ``(C, rows, DEPTH, TAPS)`` in float32, of operands contiguous and aligned."""
    n, c, h, w, kh, kw, dy, dx, *_ = problem
    left, width = tiles.window(problem, tile.block_x)
    width, rows, period, columns = tiles.power_of_2(width), partial.shape[1], tile.depth * dy, tile.depth * tile.block_x
    x, grad_output = _in_periods(x, period), _in_blocks(_in_periods(grad_output, period), dy, tile.block_x)
    block_n, block_g = tiles.split(tile.block_k, n, x.shape[2])
    descriptor_grad_weight_kernel[c * rows // tile.depth_in, ](
        TensorDescriptor.from_tensor(x, [block_n, 1, block_g, 1, width]),
        TensorDescriptor.from_tensor(grad_output, [block_n, 1, block_g, 1, columns]),
        partial, n, c, h, w // tiles.ALIGN, KH=kh, KW=kw, DY=dy, DX=dx, ROWS=rows, TAPS=partial.shape[-1], LEFT=left,
        WIDTH=width, ALIGN=tiles.ALIGN, BLOCK_X=tile.block_x, DEPTH_IN=tile.depth_in, DEPTH=tile.depth, BLOCK_N=block_n,
        BLOCK_G=block_g, num_warps=tile.num_warps, num_stages=tile.num_stages)


def _in_periods(t: Tensor, period: int) -> Tensor:
    """Returns ``t (N, C, H, W)`` as ``(N, C, H / period, period, W)``, padded with zeros to whole periods."""
    n, c, h, w = t.shape
    if h % period:  # F.pad copies even where it adds nothing
        t = F.pad(t, (0, 0, 0, -h % period))
    return t.view(n, c, -1, period, w)


def _in_blocks(t: Tensor, dy: int, block_x: int) -> Tensor:
    """Returns ``t (N, C, G, DEPTH * DY, W)`` as ``(N, C, G, DY * blocks, DEPTH * block_x)``, each stack contiguous."""
    n, c, groups, period, w = t.shape
    if w % block_x:
        t = F.pad(t, (0, -w % block_x))
    t = t.view(n, c, groups, period // dy, dy, -1, block_x).permute(0, 1, 2, 4, 5, 3, 6)
    return t.reshape(n, c, groups, -1, period // dy * block_x)


@triton.jit(do_not_specialize=['N', 'C', 'H', 'W_ALIGNED'])
def descriptor_forward_kernel(
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


@triton.jit(do_not_specialize=['N', 'C', 'H', 'W_ALIGNED'])
def descriptor_grad_weight_kernel(
    x_desc,
    grad_desc,
    partial_ptr,
    N,
    C,
    H,
    W_ALIGNED,
    KH: tl.constexpr,
    KW: tl.constexpr,
    DY: tl.constexpr,
    DX: tl.constexpr,
    ROWS: tl.constexpr,
    TAPS: tl.constexpr,
    LEFT: tl.constexpr,
    WIDTH: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_X: tl.constexpr,
    DEPTH_IN: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_G: tl.constexpr,
):
    PERIOD: tl.constexpr = DEPTH * DY
    BACK: tl.constexpr = (KH // 2 * DY + PERIOD - 1) // PERIOD  # periods that the first input row lies further up
    K: tl.constexpr = BLOCK_N * BLOCK_G
    groups, blocks = tl.cdiv(H, PERIOD), tl.cdiv(W_ALIGNED * ALIGN, BLOCK_X)
    pid = tl.program_id(0)
    c, r0 = pid // (ROWS // DEPTH_IN), pid % (ROWS // DEPTH_IN) * DEPTH_IN
    first = (r0 - KH // 2) * DY + BACK * PERIOD  # never negative

    n0, g0, s, t = 0, 0, 0, 0  # images, stacks, the phase of dilation, the block of columns
    acc = (tl.zeros((DEPTH * BLOCK_X, WIDTH), tl.float32), ) * DEPTH_IN  # for each r: (J, WIDTH), (J,): (dy, xi)
    for _ in range(tl.cdiv(N, BLOCK_N) * tl.cdiv(groups, BLOCK_G) * DY * blocks):
        grad = grad_desc.load([n0, c, g0, s * blocks + t, 0]).reshape(K, DEPTH * BLOCK_X)
        sums = ()
        for i in tl.static_range(DEPTH_IN):
            y = first + i * DY + s
            rows = x_desc.load([n0, c, g0 + y // PERIOD - BACK, y % PERIOD, t * BLOCK_X - LEFT]).reshape(K, WIDTH)
            sums = sums + (tl.dot(grad.T, rows, acc[i]), )  # noqa: RUF005, Triton has no starred tuples
        acc = sums
        t += 1
        if t == blocks:
            t = 0
            s += 1
            if s == DY:
                s = 0
                g0 += BLOCK_G
                if g0 >= groups:
                    g0 = 0
                    n0 += BLOCK_N

    kx = tl.arange(0, TAPS)
    x = (tl.arange(0, DEPTH * BLOCK_X) % BLOCK_X)[:, None] + (kx * DX + LEFT - KW // 2 * DX)[None, :]
    inside = (x >= 0) & (x < WIDTH)  # (J, TAPS): whether tap kx of output xi lies in the window
    partial_ptr += (c.to(tl.int64) * ROWS + r0) * (DEPTH * TAPS)
    offsets = (tl.arange(0, DEPTH) * TAPS)[:, None] + kx[None, :]
    for i in tl.static_range(DEPTH_IN):
        diagonals = tl.where(inside, tl.gather(acc[i], tl.where(inside, x, 0), axis=1), 0.0)
        sums_of_row = tl.sum(diagonals.reshape(DEPTH, BLOCK_X, TAPS), axis=1)  # (DEPTH, TAPS)
        tl.store(partial_ptr + i * (DEPTH * TAPS) + offsets, sums_of_row)
