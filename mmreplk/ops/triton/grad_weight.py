"""The gradient of the filter, as one matrix product on tensor cores and sums along its diagonals.

For channel ``c``, let ``(n, g)`` count stacks of DEPTH rows, ``dy`` the rows of ``grad_output`` in one, ``r`` the input
rows that they meet, ``t`` blocks of BLOCK_X columns, ``xi`` the columns in one and ``x`` those of its input window::

    product[(r, x), (dy, xi)] = sum over n, g, t of  in[(r, x), (n, g, t)] * grad_output[(n, g, t), (dy, xi)]
    partial[r, dy, kx]        = sum over xi of       product[(r, xi + kx + LEFT - KW // 2), (dy, xi)]
    grad_weight[ky, kx]       = sum over dy of       partial[ky + dy, dy, kx]

The first two lines are the Triton kernel, a program for every DEPTH_IN rows ``r``; the third is a sum in PyTorch over a
diagonal view of ``partial``, in a fixed order: the same input gives the same bits. Letters: input and ``grad_output``
``(N, C, H, W)``, filter ``(KH, KW)``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import layout, tiles, tuning
from .layout import aligned


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Returns the gradient with respect to the filters.

    Args:
        x: Input ``(N, C, H, W)``: float32, bfloat16 or float16.
        grad_output: Gradient of the output, in the shape and dtype of ``x``.
        kernel_size: ``(KH, KW)``, both odd.

    Returns:
        ``(C, 1, KH, KW)``, contiguous, in the dtype of ``x``, accumulated in float32.
    """
    kh, kw = kernel_size
    if kh > kw:  # as in the forward pass
        return grad_weight(x.mT, grad_output.mT, (kw, kh)).mT.contiguous()
    x, grad_output = aligned(x), aligned(grad_output)
    (n, c, h, columns), precision = x.shape, _precision(x)

    def launch(tile: tiles.GradWeightTile) -> Tensor:
        window = tiles.window(columns, kw, tile.block_x)
        rows = tiles.round_up(kh + tile.depth - 1, tile.depth_in)
        partial = x.new_empty(c, rows, tile.depth, tiles.power_of_2(kw), dtype=torch.float32)
        grad_weight_kernel[c * rows // tile.depth_in, ](
            x, grad_output, partial, n, c, h, columns // tiles.ALIGN, KH=kh, KW=kw, ROWS=rows, TAPS=partial.shape[-1],
            LEFT=window.left, WIDTH=tiles.power_of_2(window.width), PRECISION=precision, ALIGN=tiles.ALIGN,
            BLOCK_X=tile.block_x, DEPTH_IN=tile.depth_in, DEPTH=tile.depth, BLOCK_K=tile.block_k,
            num_warps=tile.num_warps, num_stages=tile.num_stages)
        return partial

    candidates = tiles.grad_weight_tiles(n * h, columns, kw, x.itemsize)
    partial = launch(tuning.best('grad_weight', (kh, kw, precision), x, candidates, launch))
    of_channel, of_row, of_depth, of_tap = partial.stride()
    diagonals = partial.as_strided((c, kh, kw, partial.shape[2]), (of_channel, of_row, of_tap, of_row + of_depth))
    return diagonals.sum(-1).to(x.dtype).view(c, 1, kh, kw)


def _precision(x: Tensor) -> str:
    """Returns how float32 is multiplied: in place of TF32, from the ninth generation on, by three products in bfloat16.

    TF32 operands of ``wgmma`` and ``tcgen05`` must be contiguous along the axis of reduction, which here they are not:
    they would be transposed on the way into shared memory, 4 bytes at a time. bfloat16 operands may lie either way;
    the three products of two halves each take half as long again as one in TF32, and keep 16 bits, not 11.
    """
    precision = layout.precision_of(x)
    is_tf32 = precision == 'tf32' and x.dtype == torch.float32
    return 'bf16x3' if is_tf32 and layout.generation(x) >= 9 else precision


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
    ROWS: tl.constexpr,
    TAPS: tl.constexpr,
    LEFT: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_X: tl.constexpr,
    DEPTH_IN: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    W = W_ALIGNED * ALIGN  # tells the compiler that rows start on 16 bytes
    stacks, x_blocks = tl.cdiv(H, DEPTH), tl.cdiv(W, BLOCK_X)
    pid = tl.program_id(0)
    c, r0 = pid // (ROWS // DEPTH_IN), pid % (ROWS // DEPTH_IN) * DEPTH_IN
    m, j = tl.arange(0, DEPTH_IN * WIDTH), tl.arange(0, DEPTH * BLOCK_X)  # (M,): (r, x) and (J,): (dy, xi)
    r, x = r0 + m // WIDTH, m % WIDTH
    dy, xi = j // BLOCK_X, j % BLOCK_X

    acc = tl.zeros((DEPTH_IN * WIDTH, DEPTH * BLOCK_X), tl.float32)
    for step in range(tl.cdiv(N * stacks, BLOCK_K) * x_blocks):
        x0 = step % x_blocks * BLOCK_X
        ng = step // x_blocks * BLOCK_K + tl.arange(0, BLOCK_K)  # (BLOCK_K,): stacks (n, g)
        n, y0 = ng // stacks, ng % stacks * DEPTH
        plane = (n * C + c).to(tl.int64) * (H * W)
        y_in, x_in = y0[None, :] + (r - KH // 2)[:, None], (x0 - LEFT + x)[:, None]
        inside = (n < N)[None, :] & (y_in >= 0) & (y_in < H) & (x_in >= 0) & (x_in < W)
        window = tl.load(x_ptr + plane[None, :] + y_in * W + x_in, mask=inside, other=0)  # (M, BLOCK_K)
        y_out, x_out = y0[:, None] + dy[None, :], (x0 + xi)[None, :]
        inside = (n < N)[:, None] & (y_out < H) & (x_out < W)
        grad = tl.load(grad_ptr + plane[:, None] + y_out * W + x_out, mask=inside, other=0)  # (BLOCK_K, J)
        acc = tl.dot(window, grad, acc, input_precision=PRECISION)

    k = tl.arange(0, DEPTH_IN * TAPS)  # (K,): (r, kx)
    x = xi[None, :] + (k % TAPS + LEFT - KW // 2)[:, None]  # (K, J): where tap kx of output xi lies in the window
    inside = (x >= 0) & (x < WIDTH)
    diagonals = tl.gather(acc, tl.where(inside, (k // TAPS * WIDTH)[:, None] + x, 0), axis=0)
    sums = tl.sum(tl.where(inside, diagonals, 0.0).reshape(DEPTH_IN * TAPS, DEPTH, BLOCK_X), axis=2)  # (K, DEPTH)
    partial_ptr += (c.to(tl.int64) * ROWS + r0) * (DEPTH * TAPS)
    offsets = (k // TAPS * (DEPTH * TAPS) + k % TAPS)[:, None] + (tl.arange(0, DEPTH) * TAPS)[None, :]
    tl.store(partial_ptr + offsets, sums)
