"""A filter as the banded Toeplitz matrix that turns a row of the convolution into a row of a matrix product.

A block of BLOCK_X outputs reads a window of WIDTH inputs. Output ``xi`` takes input ``x`` of the window times
``weight[c, ky, x - xi - LEFT + KW // 2]``, zero where that tap does not exist: a ``(BLOCK_X, WIDTH)`` band for each
``ky``. The tape is all of them on top of each other, from the last ``ky`` to the first, with enough zero bands at both
ends for DEPTH output rows to share every input row: the bands of input row ``r`` for output rows ``0 .. DEPTH - 1``
(``ky = r - row``) are then one contiguous block of the tape, which starts one band earlier for each further ``r``.
"""

import math
import weakref
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tiles import ForwardTile, Window, round_up

BLOCK = 1024
CACHED = 64  # tapes; RepLKNet-31B has 24 large filters, XL as many


class Geometry(NamedTuple):
    """Everything but the filter that a tape depends on. ``rows``: input rows that a stack of outputs reads."""
    left: int
    width: int
    block_x: int
    depth: int
    rows: int

    @property
    def bands(self) -> int:
        return self.rows + self.depth - 1


def geometry(kernel_height: int, window: Window, tile: ForwardTile) -> Geometry:
    """Returns the geometry with enough rows for ``rows * width`` to be whole steps of ``tile.block_k``."""
    multiple = tile.block_k // math.gcd(window.width, tile.block_k)
    return Geometry(*window, tile.block_x, tile.depth, round_up(kernel_height + tile.depth - 1, multiple))


class _Kept(NamedTuple):
    """A tape and what says whether it is up to date: the version of its filter, or else the bits of it."""
    owner: weakref.ref
    version: int | None
    bits: Tensor | None
    tape: Tensor


_cache: dict[tuple, _Kept] = {}  # the last used last


def tape(weight: Tensor, dtype: torch.dtype, shape: Geometry, flip: bool, transpose: bool, keep: bool) -> Tensor:
    """Returns the tape of ``weight (C, 1, KH, KW)`` in ``dtype``, transposed and turned by 180 degrees if asked.

    With ``keep`` it is kept while the filter lives, CACHED tapes at most, and expanded again if the filter has changed.
    The version of a frozen filter tells. Filters that train are also written through ``.data``, which averaging hooks
    do and no version shows, and tensors of inference mode have no version: these are compared with a copy, on the GPU,
    so that nothing waits. While a CUDA graph is captured, tapes are neither kept nor read: the graph owns its memory.

    Returns:
        ``(C, bands, block_x, width)``.
    """
    if not keep or _is_capturing(weight):
        return _expand(weight, dtype, shape, flip, transpose)
    stream = torch.cuda.current_stream(weight.device) if weight.is_cuda else None
    key = weight.data_ptr(), weight.shape, weight.stride(), weight.dtype, stream, dtype, shape, flip, transpose
    version = None if weight.requires_grad or weight.is_inference() else weight._version
    kept = _cache.pop(key, None)
    if kept is None or kept.owner() is not weight or kept.version != version:
        bits = _bits(weight).clone() if version is None else None
        owner = weakref.ref(weight, lambda _: _cache.pop(key, None))
        kept = _Kept(owner, version, bits, _expand(weight, dtype, shape, flip, transpose))
    elif version is None:
        _update(kept, weight, shape, flip, transpose)
    _cache[key] = kept
    if len(_cache) > CACHED:
        _cache.pop(next(iter(_cache)), None)
    return kept.tape


def _is_capturing(weight: Tensor) -> bool:
    return weight.is_cuda and torch.cuda.is_current_stream_capturing()


def _bits(weight: Tensor) -> Tensor:
    return weight.detach().contiguous().view(torch.int32 if weight.itemsize == 4 else torch.int16)


def _expand(weight: Tensor, dtype: torch.dtype, shape: Geometry, flip: bool, transpose: bool) -> Tensor:
    out = weight.new_empty(weight.shape[0], shape.bands, shape.block_x, shape.width, dtype=dtype)
    tape_kernel[weight.shape[0], triton.cdiv(out[0].numel(), BLOCK)](
        weight.contiguous(), out, **_constants(weight, shape, flip, transpose))
    return out


def _update(kept: _Kept, weight: Tensor, shape: Geometry, flip: bool, transpose: bool) -> None:
    update_kernel[weight.shape[0], ](
        weight.contiguous(), _bits(weight), kept.bits, kept.tape, **_constants(weight, shape, flip, transpose))


def _constants(weight: Tensor, shape: Geometry, flip: bool, transpose: bool) -> dict[str, int]:
    kh, kw = weight.shape[:1:-1] if transpose else weight.shape[2:]
    return dict(KH=kh, KW=kw, FLIP=flip, TRANSPOSE=transpose, LEFT=shape.left, WIDTH=shape.width, BLOCK_X=shape.block_x,
                BANDS=shape.bands, ROWS=shape.rows, BLOCK=BLOCK)  # yapf: disable


@triton.jit
def tape_kernel(
    weight_ptr,
    tape_ptr,
    KH: tl.constexpr,
    KW: tl.constexpr,
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
    _write(weight_ptr, tape_ptr, c, element, KH, KW, FLIP, TRANSPOSE, LEFT, WIDTH, BLOCK_X, BANDS, ROWS)


@triton.jit
def update_kernel(
    weight_ptr,
    bits_ptr,
    kept_ptr,
    tape_ptr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    FLIP: tl.constexpr,
    TRANSPOSE: tl.constexpr,
    LEFT: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_X: tl.constexpr,
    BANDS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Keeps the new bits of a channel and writes its tape again if they are others; a program for each channel."""
    c = tl.program_id(0).to(tl.int64)
    changed = 0
    for first in range(0, KH * KW, BLOCK):
        tap = first + tl.arange(0, BLOCK)
        is_own = tap < KH * KW
        new = tl.load(bits_ptr + c * (KH * KW) + tap, mask=is_own, other=0)
        old = tl.load(kept_ptr + c * (KH * KW) + tap, mask=is_own, other=0)
        changed = tl.maximum(changed, tl.max((new != old).to(tl.int32)))
        tl.store(kept_ptr + c * (KH * KW) + tap, new, mask=is_own)
    if changed != 0:
        for first in range(0, BANDS * BLOCK_X * WIDTH, BLOCK):
            element = first + tl.arange(0, BLOCK)
            _write(weight_ptr, tape_ptr, c, element, KH, KW, FLIP, TRANSPOSE, LEFT, WIDTH, BLOCK_X, BANDS, ROWS)


@triton.jit
def _write(
    weight_ptr,
    tape_ptr,
    c,
    element,
    KH: tl.constexpr,
    KW: tl.constexpr,
    FLIP: tl.constexpr,
    TRANSPOSE: tl.constexpr,
    LEFT: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_X: tl.constexpr,
    BANDS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Writes some elements of the tape of channel ``c``."""
    band, xi, x = element // WIDTH // BLOCK_X, element // WIDTH % BLOCK_X, element % WIDTH
    ky, kx = ROWS - 1 - band, x - xi - LEFT + KW // 2
    inside = (ky >= 0) & (ky < KH) & (kx >= 0) & (kx < KW)
    if FLIP:
        ky, kx = KH - 1 - ky, KW - 1 - kx
    offset = kx * KH + ky if TRANSPOSE else ky * KW + kx
    tap = tl.load(weight_ptr + c * (KH * KW) + offset, mask=inside, other=0)
    is_own = element < BANDS * BLOCK_X * WIDTH
    tl.store(tape_ptr + c * (BANDS * BLOCK_X * WIDTH) + element, tap.to(tape_ptr.dtype.element_ty), mask=is_own)
