"""The gradient of the filter, as one matrix product on tensor cores and sums along its diagonals.

For channel ``c``, let ``(n, g)`` count stacks of DEPTH rows, ``dy`` the rows of ``grad_output`` in one, ``r`` the input
rows that they meet, ``t`` blocks of BLOCK_X columns, ``xi`` the columns in one and ``x`` those of its input window::

    product[(r, x), (dy, xi)] = sum over n, g, t of  in[(r, x), (n, g, t)] * grad_output[(n, g, t), (dy, xi)]
    partial[r, dy, kx]        = sum over xi of       product[(r, xi + kx * DX + LEFT - KW // 2 * DX), (dy, xi)]
    grad_weight[ky, kx]       = sum over dy of       partial[ky + dy, dy, kx]

The first two lines are the Triton kernel, a program for every DEPTH_IN rows ``r``; the third is a sum in PyTorch over a
diagonal view of ``partial``, in a fixed order: the same input gives the same bits. The rows of a stack are DY apart,
and so are the input rows. Letters: input and ``grad_output`` ``(N, C, H, W)``, filter ``(KH, KW)``, dilation
``(DY, DX)``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import cost, descriptors, layout, tiles, tuning
from .layout import aligned


def grad_weight(
    x: Tensor,
    grad_output: Tensor,
    kernel_size: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Tensor:
    """Returns the gradient with respect to the filters.

    Args:
        x: Input ``(N, C, H, W)``: float32, bfloat16 or float16.
        grad_output: Gradient of the output, in the shape and dtype of ``x``.
        kernel_size: ``(KH, KW)``, both odd.
        dilation: Step between taps, in input pixels, ``(DY, DX)``.

    Returns:
        ``(C, 1, KH, KW)``, contiguous, in the dtype of ``x``, accumulated in float32.
    """
    (kh, kw), (dy, dx) = kernel_size, dilation
    if kh > kw:  # as in the forward pass
        return grad_weight(x.mT, grad_output.mT, (kw, kh), (dx, dy)).mT.contiguous()
    x, grad_output, gpu = aligned(x), aligned(grad_output), layout.gpu_of(x)
    n, c, h, w = x.shape
    problem = tiles.Problem(n, c, h, w, kh, kw, dy, dx, x.itemsize, product_precision(x, gpu))

    def launch(tile: tiles.GradWeightTile) -> Tensor:
        rows = tiles.round_up(kh + tile.depth - 1, tile.depth_in)
        partial = x.new_empty(c, rows, tile.depth, tiles.power_of_2(kw), dtype=torch.float32)
        (descriptors.grad_weight if tile.descriptors else _launch)(x, grad_output, partial, problem, tile)
        of_channel, of_row, of_depth, of_tap = partial.stride()
        diagonals = partial.as_strided((c, kh, kw, tile.depth), (of_channel, of_row, of_tap, of_row + of_depth))
        return diagonals.sum(-1)

    tile = tuning.best('grad_weight', problem, x, cost.grad_weight_tiles(problem, gpu), launch)
    return launch(tile).to(x.dtype).view(c, 1, kh, kw)


def product_precision(x: Tensor, gpu: cost.Gpu) -> str:
    """Returns how float32 is multiplied: on GPUs with ``wgmma`` or ``tcgen05``, three times in bfloat16, not in TF32.

    TF32 operands of these must be contiguous along the axis of reduction, which here they are not: they would be
    transposed on the way into shared memory, 4 bytes at a time. bfloat16 operands may lie either way. Each float32 is
    split into two of them; the three products take half as long again as one in TF32, and keep 16 bits, not 11.
    """
    precision = layout.precision_of(x)
    is_tf32 = precision == 'tf32' and x.dtype == torch.float32
    return 'bf16x3' if is_tf32 and gpu.is_wgmma and layout.HAS_BF16X3 else precision


def _launch(
    x: Tensor,
    grad_output: Tensor,
    partial: Tensor,
    problem: tiles.Problem,
    tile: tiles.GradWeightTile,
) -> None:
    n, c, h, w, kh, kw, dy, dx, *_ = problem
    (left, width), rows = tiles.window(problem, tile.block_x), partial.shape[1]
    block_n, block_g = tiles.split(tile.block_k, n, tiles.stacks(problem, tile.depth) // dy)
    grad_weight_kernel[c * rows // tile.depth_in, ](
        x, grad_output, partial, n, c, h, w // tiles.ALIGN, KH=kh, KW=kw, DY=dy, DX=dx, ROWS=rows,
        TAPS=partial.shape[-1], LEFT=left, WIDTH=tiles.power_of_2(width), PRECISION=problem.precision,
        ALIGN=tiles.ALIGN, BLOCK_X=tile.block_x, DEPTH_IN=tile.depth_in, DEPTH=tile.depth, BLOCK_N=block_n,
        BLOCK_G=block_g, num_warps=tile.num_warps, num_stages=tile.num_stages)


@triton.jit(do_not_specialize=['N', 'C', 'H', 'W_ALIGNED'])
def grad_weight_kernel(
    x_ptr,
    grad_ptr,
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
    PRECISION: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_X: tl.constexpr,
    DEPTH_IN: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_G: tl.constexpr,
):
    W = W_ALIGNED * ALIGN  # tells the compiler that rows start on 16 bytes
    pid = tl.program_id(0)
    c, r0 = pid // (ROWS // DEPTH_IN), pid % (ROWS // DEPTH_IN) * DEPTH_IN
    # (M,): (r, x), (J,): (dy, xi), (K,): stacks (n, g)
    m, j, k = tl.arange(0, DEPTH_IN * WIDTH), tl.arange(0, DEPTH * BLOCK_X), tl.arange(0, BLOCK_N * BLOCK_G)
    r, x = (r0 + m // WIDTH - KH // 2) * DY, m % WIDTH - LEFT
    dy, xi = j // BLOCK_X * DY, j % BLOCK_X
    n, y = k // BLOCK_G, k % BLOCK_G * (DEPTH * DY)
    # Addresses and rows of the first step; further ones lie the same distance on for all elements.
    plane = (n * C + c).to(tl.int64) * (H * W) + y * W
    x_ptrs = x_ptr + plane[None, :] + (r * W + x)[:, None]  # (M, K)
    grad_ptrs = grad_ptr + plane[:, None] + (dy * W + xi)[None, :]  # (K, J)
    y_in, y_out = y[None, :] + r[:, None], y[:, None] + dy[None, :]

    HEIGHT: tl.constexpr = BLOCK_G * DEPTH * DY  # rows of a block of stacks, of all DY phases
    phases = H // HEIGHT * DY + tl.minimum(H % HEIGHT, DY)
    n0, y0, x0 = 0, 0, 0
    acc = tl.zeros((DEPTH_IN * WIDTH, DEPTH * BLOCK_X), tl.float32)
    for _ in range(tl.cdiv(N, BLOCK_N) * phases * tl.cdiv(W, BLOCK_X)):
        step = (n0 * C).to(tl.int64) * (H * W) + (y0 * W + x0)
        images, x_in = n0 + n < N, x0 + x
        inside = images[None, :] & (y0 + y_in >= 0) & (y0 + y_in < H) & ((x_in >= 0) & (x_in < W))[:, None]
        window = tl.load(x_ptrs + step, mask=inside, other=0)
        inside = images[:, None] & (y0 + y_out < H) & (x0 + xi < W)[None, :]
        grad = tl.load(grad_ptrs + step, mask=inside, other=0)
        acc = tl.dot(window, grad, acc, input_precision=PRECISION)
        # Counters, because dividing the number of the step would cost more than half of the work here.
        x0 += BLOCK_X
        if x0 >= W:
            x0 = 0
            y0 += 1
            if y0 % DY == 0:
                y0 += HEIGHT - DY
            if y0 >= H:
                y0 = 0
                n0 += BLOCK_N

    k = tl.arange(0, DEPTH_IN * TAPS)  # (K,): (r, kx)
    x = xi[None, :] + (k % TAPS * DX + LEFT - KW // 2 * DX)[:, None]  # (K, J): where tap kx of output xi lies
    inside = (x >= 0) & (x < WIDTH)
    diagonals = tl.gather(acc, tl.where(inside, (k // TAPS * WIDTH)[:, None] + x, 0), axis=0)
    sums = tl.sum(tl.where(inside, diagonals, 0.0).reshape(DEPTH_IN * TAPS, DEPTH, BLOCK_X), axis=2)  # (K, DEPTH)
    partial_ptr += (c.to(tl.int64) * ROWS + r0) * (DEPTH * TAPS)
    offsets = (k // TAPS * (DEPTH * TAPS) + k % TAPS)[:, None] + (tl.arange(0, DEPTH) * TAPS)[None, :]
    tl.store(partial_ptr + offsets, sums)
