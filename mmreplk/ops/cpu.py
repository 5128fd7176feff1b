"""The three passes of a "same", stride-1 depthwise convolution on x86 CPUs.

oneDNN's compiled depthwise *forward* refuses padding wider than its register block and falls back to im2col, and
PyTorch's weight gradient is slow from 5x5 on. Three ways have no such limits:

- oneDNN's *backward-data*, which PyTorch reaches through ``conv_transpose2d``. With an odd kernel and "same" padding a
  convolution is the transposed convolution with the flipped filter, so every pass can be written as one.
- oneDNN's forward for channels-last tensors.
- Fourier transforms, for the largest kernels: with sizes that factor well, no larger than keeps what wraps around out
  of the part that is kept, and as few channels at a time as stay in the cache. Here a NaN, an infinity and the
  rounding errors of the largest values spread over the whole map.

Shapes: ``x`` and ``grad_output`` ``(N, C, H, W)``, ``weight`` ``(C, 1, KH, KW)``. float16 is computed in float32. So is
bfloat16, but for oneDNN's kernels on CPUs with instructions for it, which accumulate in float32 and round once.

Memory at the peak, results included: ``forward`` and ``grad_input`` take at most four times what input and filter take
in float32, ``grad_weight`` at most four times ``SCRATCH`` padded pixels in float32, or ``CHANNEL_BLOCK`` padded maps a
thread where these are more. Fourier transforms take eight times ``FFT_SCRATCH`` transformed pixels beside that, or one
channel of the batch or a map a thread where these are more.
"""

import functools
import math
import operator

import torch
import torch.nn.functional as F
from torch import Tensor

_INSTRUCTIONS = torch.backends.cpu.get_cpu_capability() if torch.backends.mkldnn.is_available() else 'none'
IS_SUPPORTED = _INSTRUCTIONS in ('AVX2', 'AVX512')
# What PyTorch does not leave to oneDNN on this CPU, but computes itself: many times slower, and gradients roughly.
SLOW_DTYPES = {
    dtype
    for dtype, name in ((torch.bfloat16, 'bf16'), (torch.float16, 'fp16'))
    if IS_SUPPORTED and not getattr(torch.ops.mkldnn, f'_is_mkldnn_{name}_supported')()
}
# Whether oneDNN has instructions for bfloat16; it takes it without them too, but slower than float32.
HAS_BFLOAT16 = IS_SUPPORTED and torch.bfloat16 not in SLOW_DTYPES and (
    getattr(torch.cpu, 'get_capabilities', dict)().get('avx512_bf16', False))
# What follows was measured with tools/measure_cpu_thresholds.py, with AVX-512 and, on the same cores, with AVX2. Where
# the two are close, one value serves both.
# The largest kernel extent that oneDNN's forward takes.
LARGEST_FORWARD = {'AVX2': 9, 'AVX512': 13}.get(_INSTRUCTIONS, math.inf)
# The smallest from which the channels-last forward, conversions included, beats the transposed convolution in float32.
# In bfloat16 oneDNN does not return from it for many maps of up to 16 channels: see may_never_return.
SMALLEST_CHANNELS_LAST = {'AVX512': 21}.get(_INSTRUCTIONS, math.inf)
# The smallest whose weight gradient is faster as a transposed convolution than in PyTorch.
SMALLEST_GRAD_WEIGHT = 5 if IS_SUPPORTED else math.inf
# Products per transformed pixel from which on Fourier transforms, of Intel's library, are the fastest way, by pass, and
# for the forward in bfloat16 where HAS_BFLOAT16.
SMALLEST_FFT = {'forward': 75, 'bfloat16_forward': 110, 'grad_weight': 110}
if not torch.backends.mkl.is_available():
    SMALLEST_FFT = dict.fromkeys(SMALLEST_FFT, math.inf)
# N * C * H * W * KH * KW from which on what is gained outweighs what calling an operator of our own costs, by whether
# gradients are wanted.
SMALLEST_WORK = {False: 4e5, True: 1.3e6}
# The largest extent for which PyTorch's weight gradient is right: that of 51x1 or 51x3 and longer ones is wrong by tens
# of per cent on maps higher than the kernel.
LARGEST_SOUND = 49
# Padded input pixels that the weight gradient takes at a time: 8 MiB, which stay in the cache.
SCRATCH = 2**21
# Transformed pixels at a time: 1 MiB, and as much again for each of the spectra.
FFT_SCRATCH = 2**18
# Channels that oneDNN's kernels compute together.
CHANNEL_BLOCK = 16

_without_autocast = torch.autocast('cpu', enabled=False)


def may_never_return(x: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether PyTorch's convolution in ``dtype`` may not: in bfloat16, with channels-last strides of one of the two.

    That is for filters larger than LARGEST_FORWARD, as (1, 3, 11, 36) with 9x23 in PyTorch 2.13.
    """
    return dtype == torch.bfloat16 and any(t.stride(1) < t.stride(2) for t in (x, weight))


def forward(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns the convolution of ``x`` with ``weight``, plus ``bias (C,)``; contiguous, in the dtype of ``x``."""
    return _convolve(x, weight, bias)


def grad_input(grad_output: Tensor, weight: Tensor) -> Tensor:
    """Returns the gradient with respect to ``x``: the convolution of ``grad_output`` with the flipped filter."""
    return _convolve(grad_output, weight, flip=True)


@_without_autocast
def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, flip: bool = False) -> Tensor:
    in_bfloat16 = HAS_BFLOAT16 and x.dtype == torch.bfloat16
    if _suits_fft('bfloat16_forward' if in_bfloat16 else 'forward', x.shape, weight.shape[-2:]):
        way, dtype = fft_convolve, torch.float32
    else:
        way, dtype = direct_convolve, torch.bfloat16 if in_bfloat16 else torch.float32
    return way(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype), flip).to(x.dtype)


def direct_convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, flip: bool = False) -> Tensor:
    """Returns the convolution, with the flipped filter if ``flip``, by one of oneDNN's kernels.

    In float32 or, where HAS_BFLOAT16, in bfloat16.
    """
    groups, _, kh, kw = weight.shape
    size, padding = max(kh, kw), (kh // 2, kw // 2)
    if x.dtype == torch.bfloat16:
        is_transposed = flip or size > LARGEST_FORWARD
    else:
        is_transposed = LARGEST_FORWARD < size < SMALLEST_CHANNELS_LAST
    if flip != is_transposed:
        weight = weight.flip(-1, -2)
    if is_transposed:
        return F.conv_transpose2d(x.contiguous(), weight, bias, padding=padding, groups=groups)
    layout = torch.contiguous_format if size <= LARGEST_FORWARD else torch.channels_last
    return F.conv2d(x.contiguous(memory_format=layout), weight, bias, padding=padding, groups=groups).contiguous()


def fft_convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, flip: bool = False) -> Tensor:
    """Returns the convolution, with the flipped filter if ``flip``, by Fourier transforms, in float32."""
    (h, w), (kh, kw) = x.shape[-2:], weight.shape[-2:]
    size, channels, out = _fft_size(x.shape, (kh, kw)), _fft_channels(x.shape, (kh, kw)), x.new_empty(x.shape)
    # A product of spectra convolves in the mathematical sense, with the filter flipped.
    weight = weight if flip else weight.flip(-1, -2)
    parts = zip(x.split(channels, 1), weight[:, 0].split(channels), out.split(channels, 1), strict=True)
    for part, filters, target in parts:
        spectrum = torch.fft.rfft2(part, size).mul_(torch.fft.rfft2(filters, size))
        target.copy_(torch.fft.irfft2(spectrum, size)[..., kh // 2:kh // 2 + h, kw // 2:kw // 2 + w])
    return out if bias is None else out.add_(bias.view(-1, 1, 1))


@_without_autocast
def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Returns the gradient with respect to ``weight``, ``(C, 1, KH, KW)``, in the dtype of ``x``."""
    dtype, x, grad_output = x.dtype, x.float(), grad_output.float()
    way = fft_grad_weight if _suits_fft('grad_weight', x.shape, kernel_size) else direct_grad_weight
    return way(x, grad_output, kernel_size).to(dtype)


def direct_grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Returns the gradient by oneDNN's backward-data, in float32.

    Takes as many channels at a time as have ``SCRATCH`` padded input pixels, but keeps every core busy.
    """
    n, _, h, w = x.shape
    pixels = (h + kernel_size[0] - 1) * (w + kernel_size[1] - 1)
    step = CHANNEL_BLOCK * torch.get_num_threads()
    channels = math.ceil(max(1, SCRATCH // (pixels * step)) * step / n)
    grads = [_direct_grad_weight(*part, kernel_size)
             for part in zip(x.split(channels, 1), grad_output.split(channels, 1), strict=True)]  # yapf: disable
    return grads[0] if len(grads) == 1 else torch.cat(grads)


def _direct_grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Correlates the padded input with ``grad_output``, one large filter for every image and channel."""
    (n, c, h, w), (kh, kw) = x.shape, kernel_size
    padded = F.pad(x, (kw // 2, kw // 2, kh // 2, kh // 2))
    grad = F.conv_transpose2d(
        padded.reshape(1, n * c, *padded.shape[-2:]),
        grad_output.reshape(n * c, 1, h, w).flip(-1, -2),
        padding=(h - 1, w - 1),
        groups=n * c)
    return grad.view(n, c, 1, kh, kw).sum(0)


def fft_grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Returns the gradient by Fourier transforms, in float32: the correlation of input and ``grad_output``."""
    (kh, kw), size, channels = kernel_size, _fft_size(x.shape, kernel_size), _fft_channels(x.shape, kernel_size)
    out = x.new_empty(x.shape[1], 1, kh, kw)
    parts = zip(x.split(channels, 1), grad_output.split(channels, 1), out.split(channels), strict=True)
    for part, grad, target in parts:
        spectrum = (torch.fft.rfft2(part, size) * torch.fft.rfft2(grad, size).conj()).sum(0)
        # Tap (0, 0) is where the two are shifted by half a kernel.
        taps = torch.fft.irfft2(spectrum, size).roll((kh // 2, kw // 2), (-2, -1))
        target.copy_(taps[:, None, :kh, :kw])
    return out


def _suits_fft(what: str, shape: torch.Size, kernel_size: tuple[int, int]) -> bool:
    return max(kernel_size) > LARGEST_FORWARD and products_per_pixel(what, shape, kernel_size) >= SMALLEST_FFT[what]


def products_per_pixel(what: str, shape: torch.Size, kernel_size: tuple[int, int]) -> float:
    """Returns how many products, of those that cost oneDNN time, one transformed pixel replaces.

    The forward leaves out most taps outside the map, the weight gradient none. Either takes the transforms of N maps
    there and of N back, and one of a filter.
    """
    n, _, h, w = shape
    (kh, kw), taps = kernel_size, operator.mul if what == 'grad_weight' else _taps_inside
    return n * taps(h, kh) * taps(w, kw) / ((2 * n + 1) * math.prod(_fft_size(shape, kernel_size)))


@functools.cache
def _taps_inside(extent: int, taps: int) -> int:
    """Returns how many pairs of an output and an input of ``extent`` are within ``taps // 2`` of each other."""
    return sum(max(0, extent - abs(offset)) for offset in range(-(taps // 2), taps // 2 + 1))


def _fft_size(shape: torch.Size, kernel_size: tuple[int, int]) -> tuple[int, int]:
    return _fft_length(shape[-2], kernel_size[0], 1), _fft_length(shape[-1], kernel_size[1], 2)


@functools.cache
def _fft_length(extent: int, taps: int, multiple: int) -> int:
    """Returns the least length, a product of 2, 3 and 5, that keeps "same" outputs from what wraps around.

    Of the ``extent + taps - 1`` outputs of a full convolution, the first and the last ``taps // 2`` are dropped, so
    that they may coincide.
    """
    length = max(extent + taps // 2, taps)
    while length % multiple or not _is_smooth(length):
        length += 1
    return length


def _is_smooth(length: int) -> bool:
    for factor in (2, 3, 5):
        while length % factor == 0:
            length //= factor
    return length == 1


def _fft_channels(shape: torch.Size, kernel_size: tuple[int, int]) -> int:
    """Returns how many channels have FFT_SCRATCH transformed pixels, but enough for every core."""
    maps = max(FFT_SCRATCH // math.prod(_fft_size(shape, kernel_size)), torch.get_num_threads())
    return math.ceil(maps / shape[0])
