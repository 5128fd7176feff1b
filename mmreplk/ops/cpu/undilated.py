"""The three passes of a "same" convolution of stride 1 and dilation 1, each by the way that costs least.

A way of convolving is our own kernel (:mod:`direct`); or one of oneDNN's, contiguous or channels-last, in float32 or,
where the CPU has instructions for it, in bfloat16; or Fourier transforms in float32. Operands are converted to the
format and dtype of a way, and its result to those that the caller wants; :mod:`mmreplk.ops.cpu.costs` includes that.
"""

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import memory_format, tuning
from . import costs, direct, fourier, left_to_pytorch, onednn, ways
from .ways import Problem, Way


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, flip: bool, channels_last: bool) -> Tensor:
    """Returns the convolution of ``x`` with ``weight``, flipped if ``flip``, plus ``bias (C,)``.

    The result has the dtype of ``x`` and the given memory format, except for the strides of axes of size one.
    """
    if weight.shape[2] >= 2 * x.shape[2] or weight.shape[3] >= 2 * x.shape[3]:
        (top, bottom), (left, right) = met(x.shape[2:], weight.shape[2:])
        weight = weight[:, :, top:bottom, left:right]
    problem = Problem(*x.shape, *weight.shape[2:], x.dtype, memory_format.is_channels_last(x), channels_last)
    run = functools.partial(convolve_by, x=x, weight=weight, bias=bias, flip=flip, channels_last=channels_last)
    return run(chosen('convolve', problem, run))


def convolve_by(way: Way, x: Tensor, weight: Tensor, bias: Tensor | None, flip: bool, channels_last: bool) -> Tensor:
    """Does the same in one of :func:`mmreplk.ops.cpu.ways.convolving`."""
    dtype, x = x.dtype, memory_format.convert(x, way.channels_last).to(way.dtype)
    weight, bias = weight.to(way.dtype), None if bias is None else bias.to(way.dtype)
    if way.kernel == 'direct':
        return direct.convolve(x, weight, bias, (1, 1), flip, channels_last).to(dtype)
    if way.kernel == 'fourier':
        out = fourier.convolve(x, weight, bias, flip)
    elif way.kernel == 'turned':  # Rows for columns: oneDNN is faster with a tall filter than with a wide one.
        x, weight = memory_format.convert(x.mT, way.channels_last), weight.mT
        out = onednn.convolve(x, weight, bias, flip, False, way.channels_last).mT
    else:
        out = onednn.convolve(x, weight, bias, flip, way.kernel == 'transposed', way.channels_last)
    return memory_format.convert(out.to(dtype), channels_last)


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Returns the gradient with respect to the filter, ``(C, 1, KH, KW)``, in the dtype of ``x``."""
    (top, bottom), (left, right) = met(x.shape[2:], kernel_size)
    inside = bottom - top, right - left
    problem = Problem(*x.shape, *inside, x.dtype, memory_format.is_channels_last(x), False)
    run = functools.partial(grad_weight_by, x=x, grad_output=grad_output, kernel_size=inside)
    grad = run(chosen('grad_weight', problem, run))
    return F.pad(grad, (left, left, top, top)) if inside != kernel_size else grad


def grad_weight_by(way: Way, x: Tensor, grad_output: Tensor, kernel_size: tuple[int, int]) -> Tensor:
    """Does the same in one of :func:`mmreplk.ops.cpu.ways.grad_weight`."""
    if way.kernel == 'pytorch':
        padding = kernel_size[0] // 2, kernel_size[1] // 2
        x, grad_output = (memory_format.convert(t, way.channels_last) for t in (x, grad_output))
        return left_to_pytorch.grad_weight(x, grad_output, kernel_size, (1, 1), padding, (1, 1))
    dtype = x.dtype
    x, grad_output = (memory_format.convert(t, way.channels_last).to(way.dtype) for t in (x, grad_output))
    if way.kernel == 'direct':
        return direct.grad_weight(x, grad_output, kernel_size, (1, 1)).to(dtype)
    if way.kernel == 'fourier':
        return fourier.grad_weight(x, grad_output, kernel_size).to(dtype)
    kh, kw = kernel_size
    if way.kernel == 'turned':  # Rows for columns: oneDNN is faster with a wide filter than with a tall one.
        x, grad_output = x.mT.contiguous(), grad_output.mT.contiguous()
        return onednn.grad_weight(x, grad_output, (kw, kh), (kw // 2, kh // 2)).mT.contiguous().to(dtype)
    return onednn.grad_weight(x, grad_output, kernel_size, (kh // 2, kw // 2)).to(dtype)


def met(size: tuple[int, int], kernel_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Returns, for each axis, the first tap that meets a map of ``size`` at all, and the one after the last."""
    margins = [max(0, k // 2 - (length - 1)) for length, k in zip(size, kernel_size, strict=True)]
    return [(margin, k - margin) for margin, k in zip(margins, kernel_size, strict=True)]


def chosen(what: str, problem: Problem, run: Callable[[Way], Tensor]) -> Way:
    """Returns the way to ``run``: the one that should cost least or, if tuning is on, the one measured as fastest.

    ``what`` is ``'convolve'`` or ``'grad_weight'``.
    """
    default = costs.cheapest(what, problem)
    if not tuning.is_enabled():
        return default
    candidates = {str(way): way for way in ways.possible(what, problem)}
    name = tuning.fastest(tuning.processor(), _question(what, problem), str(default),
                          {name: functools.partial(run, way) for name, way in candidates.items()})
    return candidates[name]


def _question(what: str, problem: Problem) -> str:
    """Names the class of problems that one answer serves."""
    n, c, h, w, *rest = problem
    sizes = tuning.size_class(n), c, tuning.size_class(h), tuning.size_class(w)
    return ' '.join(map(str, (what, torch.__version__, torch.get_num_threads(), *sizes, *rest)))
