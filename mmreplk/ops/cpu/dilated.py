"""The three passes of a dilated "same" convolution of stride 1.

Pixels only meet those whose rows and columns equal theirs modulo the dilation. These, a *phase* of the map, can be
convolved without dilation, as one more image of the batch.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import memory_format
from . import direct, left_to_pytorch, onednn, undilated
from .ways import Problem, Way

Pair = tuple[int, int]


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: Pair, flip: bool, channels_last: bool) -> Tensor:
    """Returns the convolution of ``x`` with ``weight``, flipped if ``flip``, plus ``bias (C,)``."""
    x_last = memory_format.is_channels_last(x)
    problem = Problem(*x.shape, *weight.shape[2:], x.dtype, x_last, channels_last, *dilation)
    run = functools.partial(convolve_by, x=x, weight=weight, bias=bias, dilation=dilation, flip=flip,
                            channels_last=channels_last)
    return run(undilated.chosen('convolve', problem, run))


def convolve_by(way: Way, x: Tensor, weight: Tensor, bias: Tensor | None, dilation: Pair, flip: bool,
                channels_last: bool) -> Tensor:
    """Does the same in one of :func:`mmreplk.ops.cpu.ways.convolving`, or in PyTorch's own."""
    if way.kernel == 'phases':
        out = undilated.convolve(_phases(x, dilation), weight, bias, flip, channels_last=True)
        return memory_format.convert(_joined(out, x.shape, dilation), channels_last)
    is_transposed = way.kernel == 'transposed'
    dtype, x = x.dtype, memory_format.convert(x, way.channels_last).to(way.dtype)
    weight, bias = weight.to(way.dtype), None if bias is None else bias.to(way.dtype)
    if way.kernel == 'direct':
        return direct.convolve(x, weight, bias, dilation, flip, channels_last).to(dtype)
    weight = weight.flip(-1, -2) if flip != is_transposed else weight
    padding = tuple(d * (k // 2) for k, d in zip(weight.shape[2:], dilation, strict=True))
    if is_transposed:
        out = F.conv_transpose2d(x, weight, bias, padding=padding, dilation=dilation, groups=len(weight))
    else:
        out = left_to_pytorch.forward(x, weight, bias, (1, 1), padding, dilation, way.channels_last)
    return memory_format.convert(out.to(dtype), channels_last)


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: Pair, dilation: Pair) -> Tensor:
    """Returns the gradient with respect to the filter, ``(C, 1, KH, KW)``."""
    problem = Problem(*x.shape, *kernel_size, x.dtype, memory_format.is_channels_last(x), False, *dilation)
    run = functools.partial(grad_weight_by, x=x, grad_output=grad_output, kernel_size=kernel_size, dilation=dilation)
    return run(undilated.chosen('grad_weight', problem, run))


def grad_weight_by(way: Way, x: Tensor, grad_output: Tensor, kernel_size: Pair, dilation: Pair) -> Tensor:
    """Does the same in one of :func:`mmreplk.ops.cpu.ways.grad_weight`."""
    dtype, padding = x.dtype, tuple(d * (k // 2) for k, d in zip(kernel_size, dilation, strict=True))
    if way.kernel == 'pytorch':
        x, grad_output = (memory_format.convert(t, way.channels_last) for t in (x, grad_output))
        return left_to_pytorch.grad_weight(x, grad_output, kernel_size, (1, 1), padding, dilation)
    if way.kernel == 'direct':
        x, grad_output = (memory_format.convert(t, way.channels_last).to(way.dtype) for t in (x, grad_output))
        return direct.grad_weight(x, grad_output, kernel_size, dilation).to(dtype)
    n, _, h, w = x.shape
    channels = onednn.channels_together(n, h, w)
    grads = []
    for part, grad in zip(x.split(channels, 1), grad_output.split(channels, 1), strict=True):
        if way.kernel == 'dense':  # from the gradient of the filter that has a tap at each pixel
            extent = tuple(2 * p + 1 for p in padding)
            grads.append(undilated.grad_weight(part, grad, extent)[:, :, ::dilation[0], ::dilation[1]])
        else:
            grads.append(undilated.grad_weight(_phases(part, dilation), _phases(grad, dilation), kernel_size))
    return grads[0] if len(grads) == 1 else torch.cat(grads)


def _phases(x: Tensor, dilation: Pair) -> Tensor:
    """Returns ``(N, C, H, W)`` as ``(N * DY * DX, C, H / DY, W / DX)``, padded by zeros and channels-last."""
    (n, c, h, w), (dy, dx) = x.shape, dilation
    x = memory_format.laid_out(x, channels_last=True).permute(0, 2, 3, 1)
    x = F.pad(x, (0, 0, 0, -w % dx, 0, -h % dy))
    x = x.reshape(n, -(-h // dy), dy, -(-w // dx), dx, c).permute(0, 2, 4, 1, 3, 5)
    return x.flatten(0, 2).permute(0, 3, 1, 2)


def _joined(phases: Tensor, shape: tuple[int, int, int, int], dilation: Pair) -> Tensor:
    """Undoes :func:`_phases`; ``shape`` is ``(N, C, H, W)``."""
    (n, c, h, w), (dy, dx), (rows, columns) = shape, dilation, phases.shape[2:]
    x = phases.permute(0, 2, 3, 1).unflatten(0, (n, dy, dx)).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(n, rows * dy, columns * dx, c)[:, :h, :w].permute(0, 3, 1, 2)
