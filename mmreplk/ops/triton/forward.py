"""The convolution and the gradient of its input, as one matrix product on tensor cores.

For channel ``c``, a stack ``(n, g)`` of DEPTH output rows from row ``g * DEPTH`` on, ``dy`` counting them, and a block
of BLOCK_X columns, ``xi`` counting them::

    out[(dy, xi), (n, g)] = sum over r, x of  tape[r - dy][xi, x] * in[(r, x), (n, g)]

where ``r`` and ``x`` count the input rows and columns that the stack reads. The left factor is the filter
(:mod:`mmreplk.ops.triton.toeplitz`), the same for the whole batch; the right one is the input itself, every row of it
loaded once for DEPTH rows of output. Both are contiguous along ``x``, the axis of reduction. With dilation the rows of
a stack, of outputs and of inputs, are DY apart, and ``g`` counts the DY stacks that interleave too. Letters: input
``(N, C, H, W)``, filter ``(KH, KW)``, dilation ``(DY, DX)``.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import cost, descriptors, layout, tiles, toeplitz, tuning


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    relu: bool = False,
    flip: bool = False,
    dilation: tuple[int, int] = (1, 1),
) -> Tensor:
    """Returns the convolution of ``x`` with ``weight``, plus ``bias (C,)``, through ReLU if asked.

    Args:
        x: Input ``(N, C, H, W)``: float32, bfloat16 or float16.
        weight: Filters of odd size, ``(C, 1, KH, KW)``; rounded to the dtype of ``x``.
        bias: Added per channel, ``(C,)``.
        relu: Whether to end with ReLU.
        flip: Whether to turn the filter by 180 degrees, which makes it the gradient with respect to the input.
        dilation: Step between taps, in input pixels, ``(DY, DX)``.

    Returns:
        ``(N, C, H, W)``, contiguous, in the dtype of ``x``, accumulated in float32.
    """
    (kh, kw), (dy, dx) = weight.shape[-2:], dilation
    transpose = kh > kw  # The Toeplitz axis is the long one: 51 of 80 columns of a window do work, not 5 of 32.
    if transpose:
        x, kh, kw, dy, dx = x.mT, kw, kh, dx, dy
    (n, c, h, w), x = x.shape, layout.aligned(x)
    problem = tiles.Problem(n, c, h, x.shape[-1], kh, kw, dy, dx, x.itemsize, layout.precision_of(x))

    def launch(tile: tiles.ForwardTile) -> Tensor:
        shape, out = tiles.geometry(problem, tile), torch.empty_like(x)
        tape = toeplitz.tape(weight, x.dtype, shape, dx, flip, transpose)
        (descriptors.forward if tile.descriptors else _launch)(x, tape, bias, out, relu, problem, tile, shape)
        return out

    out = launch(tuning.best('forward', problem, x, cost.forward_tiles(problem, layout.gpu_of(x)), launch))[..., :w]
    return (out.mT if transpose else out).contiguous()


def grad_input(grad_output: Tensor, weight: Tensor, dilation: tuple[int, int] = (1, 1)) -> Tensor:
    """Returns the gradient with respect to the input: the convolution of ``grad_output`` with the flipped filter."""
    return forward(grad_output, weight, flip=True, dilation=dilation)


def _launch(
    x: Tensor,
    tape: Tensor,
    bias: Tensor | None,
    out: Tensor,
    relu: bool,
    problem: tiles.Problem,
    tile: tiles.ForwardTile,
    shape: tiles.Geometry,
) -> None:
    n, c, h, w, kh, _, dy, *_ = problem
    grid = tiles.cdiv(n * tiles.stacks(problem, tile.depth), tile.block_n) * tiles.cdiv(w, tile.block_x) * c
    forward_kernel[grid, ](
        x, tape, bias, out, n, c, h, w // tiles.ALIGN, KH=kh, DY=dy, ROWS=shape.rows, LEFT=shape.left,
        WIDTH=shape.width, RELU=relu, PRECISION=problem.precision, ALIGN=tiles.ALIGN, BLOCK_X=tile.block_x,
        DEPTH=tile.depth, BLOCK_N=tile.block_n, BLOCK_K=tile.block_k, num_warps=tile.num_warps,
        num_stages=tile.num_stages)


@triton.jit(do_not_specialize=['N', 'C', 'H', 'W_ALIGNED'])
def forward_kernel(
    x_ptr,
    tape_ptr,
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
    PRECISION: tl.constexpr,
    ALIGN: tl.constexpr,
    BLOCK_X: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    W = W_ALIGNED * ALIGN  # tells the compiler that rows start on 16 bytes
    stacks = tl.cdiv(H, DEPTH * DY) * DY
    n_blocks, x_blocks = tl.cdiv(N * stacks, BLOCK_N), tl.cdiv(W, BLOCK_X)
    pid = tl.program_id(0)
    c = pid // (n_blocks * x_blocks)  # slowest, so that neighbours share a tape in L2
    x0 = pid // n_blocks % x_blocks * BLOCK_X
    ng = pid % n_blocks * BLOCK_N + tl.arange(0, BLOCK_N)  # (BLOCK_N,): stacks (n, g)
    n, g = ng // stacks, ng % stacks
    y0 = g // DY * (DEPTH * DY) + g % DY
    plane = (n * C + c).to(tl.int64) * (H * W)
    m = tl.arange(0, DEPTH * BLOCK_X)  # (M,): outputs (dy, xi)
    tape_ptr += c.to(tl.int64) * ((ROWS + DEPTH - 1) * BLOCK_X * WIDTH) + m[:, None] * WIDTH

    acc = tl.zeros((DEPTH * BLOCK_X, BLOCK_N), tl.float32)
    for k0 in range(0, ROWS * WIDTH, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)  # (BLOCK_K,): inputs (r, x)
        r, x = k // WIDTH, k % WIDTH
        band = tl.load(tape_ptr + ((ROWS - 1 - r) * (BLOCK_X * WIDTH) + x)[None, :])  # (M, BLOCK_K)
        y_in, x_in = y0[None, :] + ((r - KH // 2) * DY)[:, None], (x0 - LEFT + x)[:, None]
        inside = (n < N)[None, :] & (y_in >= 0) & (y_in < H) & (x_in >= 0) & (x_in < W)
        rows = tl.load(x_ptr + plane[None, :] + y_in * W + x_in, mask=inside, other=0)  # (BLOCK_K, BLOCK_N)
        acc = tl.dot(band, rows, acc, input_precision=PRECISION)

    if bias_ptr is not None:
        acc += tl.load(bias_ptr + c).to(tl.float32)
    if RELU:
        acc = tl.where(acc < 0, 0.0, acc)  # keeps NaN, as torch.relu does
    y_out, x_out = y0[None, :] + (m // BLOCK_X * DY)[:, None], (x0 + m % BLOCK_X)[:, None]
    inside = (n < N)[None, :] & (y_out < H) & (x_out < W)
    tl.store(out_ptr + plane[None, :] + y_out * W + x_out, acc.to(out_ptr.dtype.element_ty), mask=inside)
