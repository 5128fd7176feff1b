"""The three passes of a "same" convolution of stride 1, each by the way that costs least.

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

Pair = tuple[int, int]


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: Pair, flip: bool, channels_last: bool) -> Tensor:
    """Returns the convolution of ``x`` with ``weight``, flipped if ``flip``, plus ``bias (C,)``.

    The result has the dtype of ``x`` and the given memory format, except for the strides of axes of size one.
    """
    x_last = memory_format.is_channels_last(x)
    problem = Problem(*x.shape, *weight.shape[2:], x.dtype, x_last, channels_last, *dilation)
    (top, left), problem = problem.inside()
    if top or left:
        weight = weight[:, :, top:top + problem.kh, left:left + problem.kw].contiguous()
    run = functools.partial(convolve_by, x=x, weight=weight, bias=bias, dilation=dilation, flip=flip,
                            channels_last=channels_last)
    return run(chosen('convolve', problem, run))


def convolve_by(way: Way, x: Tensor, weight: Tensor, bias: Tensor | None, dilation: Pair, flip: bool,
                channels_last: bool) -> Tensor:
    """Does the same in one of :func:`mmreplk.ops.cpu.ways.convolving`."""
    dtype, x = x.dtype, memory_format.convert(x, way.channels_last).to(way.dtype)
    weight, bias = weight.to(way.dtype), None if bias is None else bias.to(way.dtype)
    if way.kernel == 'direct':
        return direct.convolve(x, weight, bias, dilation, flip, channels_last).to(dtype)
    if way.kernel == 'fourier':
        out = fourier.convolve(x, weight, bias, flip)
    elif max(dilation) > 1:
        weight = weight.flip(-1, -2) if flip else weight
        padding = _padding(weight.shape[2:], dilation)
        out = left_to_pytorch.forward(x, weight, bias, (1, 1), padding, dilation, way.channels_last)
    else:
        out = onednn.convolve(x, weight, bias, flip, way.kernel == 'transposed', way.channels_last)
    return memory_format.convert(out.to(dtype), channels_last)


def grad_weight(x: Tensor, grad_output: Tensor, kernel_size: Pair, dilation: Pair) -> Tensor:
    """Returns the gradient with respect to the filter, ``(C, 1, KH, KW)``, in the dtype of ``x``."""
    problem = Problem(*x.shape, *kernel_size, x.dtype, memory_format.is_channels_last(x), False, *dilation)
    (top, left), problem = problem.inside()
    run = functools.partial(grad_weight_by, x=x, grad_output=grad_output, kernel_size=(problem.kh, problem.kw),
                            dilation=dilation)
    grad = run(chosen('grad_weight', problem, run))
    return F.pad(grad, (left, left, top, top)) if top or left else grad


def grad_weight_by(way: Way, x: Tensor, grad_output: Tensor, kernel_size: Pair, dilation: Pair) -> Tensor:
    """Does the same in one of :func:`mmreplk.ops.cpu.ways.grad_weight`."""
    dtype, padding = x.dtype, _padding(kernel_size, dilation)
    x, grad_output = (memory_format.convert(t, way.channels_last) for t in (x, grad_output))
    if way.kernel == 'pytorch':
        return left_to_pytorch.grad_weight(x, grad_output, kernel_size, (1, 1), padding, dilation)
    x, grad_output = x.to(way.dtype), grad_output.to(way.dtype)
    if way.kernel == 'direct':
        grad = direct.grad_weight(x, grad_output, kernel_size, dilation)
    elif way.kernel == 'fourier':
        grad = fourier.grad_weight(x, grad_output, kernel_size)
    else:
        grad = onednn.grad_weight(x, grad_output, kernel_size, padding)
    return grad.to(dtype)


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


def _padding(kernel_size: Pair, dilation: Pair) -> Pair:
    return dilation[0] * (kernel_size[0] // 2), dilation[1] * (kernel_size[1] // 2)


def _question(what: str, problem: Problem) -> str:
    """Names the class of problems that one answer serves."""
    n, c, h, w, *rest = problem
    sizes = tuning.size_class(n), c, tuning.size_class(h), tuning.size_class(w)
    return ' '.join(map(str, (what, torch.__version__, torch.get_num_threads(), *sizes, *rest)))
