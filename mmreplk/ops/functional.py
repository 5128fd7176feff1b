"""The public large-kernel depthwise convolution."""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from . import cpu, custom_ops, gpu, memory_format, passes
from .choice import choose_backend, why_not
from .cpu import facts
from .operands import Geometry, autocast, check, compute_dtype, geometry_of, is_autocast, is_relu, wanted_gradients


def depthwise_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: str | int | tuple[int, int] = 'same',
    dilation: int | tuple[int, int] = 1,
    activation: str | None = None,
    backend: str | None = None,
) -> Tensor:
    """Convolves every channel with its own filter, fast for kernels up to 51x51 and beyond.

    The same function as ``torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups=C)``.
    Stride 1 and "same" padding with odd kernels take the fast path on x86 CPUs and on NVIDIA GPUs with tensor cores
    (float32, bfloat16, float16, accumulated in float32); everything else is left to PyTorch where that is right. Output
    and gradients have the memory format that PyTorch gives them: channels-last if the input or the filter is. On GPUs,
    float32 is multiplied in TF32 if PyTorch's convolutions may use it. The fast path is differentiable once in all
    three tensors; a second derivative raises RuntimeError. ``vmap`` is a loop there.

    Args:
        x: Input ``(N, C, H, W)``.
        weight: One filter per channel, ``(C, 1, KH, KW)``.
        bias: Added per channel, ``(C,)``.
        stride: Step between outputs, in input pixels.
        padding: Zeros on each side, in pixels, or ``'same'``: as many as keep ``H`` and ``W`` at stride 1.
        dilation: Step between taps, in input pixels.
        activation: ``'relu'`` to end with ReLU, in the same pass on the fast path.
        backend: ``'torch'``, ``'cpu'`` or ``'triton'``; None for the one that should be fastest.

    Returns:
        ``(N, C, H', W')``; with the defaults ``(N, C, H, W)``.

    Raises:
        TypeError: If an operand is not a tensor, or dtypes differ outside autocast.
        ValueError: If shapes, devices, the padding or the activation do not fit, or ``backend`` cannot compute this.

    Source: "Scaling Up Your Kernels to 31x31", arXiv 2203.06717, Section 3.1, for why; :mod:`mmreplk.ops.cpu` and
    :mod:`mmreplk.ops.triton` for how.
    """
    # Convolving a small map takes no longer than some hundred attribute lookups. So operands are inspected once, for
    # the key of the plan, and again only if something fails.
    try:
        key = _key(x, weight, bias, stride, padding, dilation, backend)
        plan = None if key is None else _PLANS.get(key)
        if plan is None:
            plan = planned(x, weight, bias, stride, padding, dilation, backend)
            if key is not None:
                if len(_PLANS) >= MOST_PLANS:
                    _PLANS.clear()
                _PLANS[key] = plan
        relu = activation is not None and is_relu(activation)
        if plan.backend == 'torch':
            out = F.conv2d(x, weight, bias, *plan.geometry[:3], weight.shape[0])
            return out.relu() if relu else out
        return _fast(plan, x, weight, bias, relu, is_plain=key is not None)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        check(x, weight, bias)
        raise


def may_gain(
    kernel_size: tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: str | int | tuple[int, int] = 'same',
    dilation: int | tuple[int, int] = 1,
) -> bool:
    """Returns whether there is an input that this operator convolves faster than PyTorch, or right where that is not.

    The input may have any size and dtype, on the CPU of this machine or on any GPU.

    Args:
        kernel_size: Extent of the filters, ``(KH, KW)``.
        stride: As in :func:`depthwise_conv2d`.
        padding: As there.
        dilation: As there.
    """
    geometry = geometry_of(kernel_size, stride, padding, dilation)
    if geometry.is_same and math.prod(kernel_size) >= min(gpu.SMALLEST_TAPS.values()):
        return True
    is_wrong = max(kernel_size) > facts.LARGEST_SOUND or max(geometry.dilation) > 1
    return bool(facts.SLOW_DTYPES) or (cpu.IS_SUPPORTED and is_wrong)


class Plan(NamedTuple):
    """What to compute, on which backend, and whether the output is channels-last."""
    geometry: Geometry
    backend: str
    channels_last: bool


# Plans of eager calls, by all that they depend on: planning takes as long as convolving a small map.
_PLANS: dict[tuple, Plan] = {}
MOST_PLANS = 4096
PLAIN = {Tensor, torch.nn.Parameter}


def _key(x: Tensor, weight: Tensor, bias: Tensor | None, *options: object) -> tuple | None:
    """Returns what a plan depends on; None for subclasses of tensors, under a compiler or tracer, or for lists."""
    is_plain = type(x) in PLAIN and type(weight) in PLAIN and (bias is None or type(bias) in PLAIN)
    if not is_plain or torch.compiler.is_compiling() or torch.jit.is_tracing() or list in map(type, options):
        return None
    return (x.shape, x.stride(), x.device, compute_dtype(x), x.dtype, weight.shape, weight.stride(), weight.device,
            weight.dtype, None if bias is None else (bias.shape, bias.device, bias.dtype), wanted_gradients(x, weight),
            torch.get_num_threads(), options)


def planned(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int | tuple[int, int],
             padding: str | int | tuple[int, int], dilation: int | tuple[int, int], backend: str | None) -> Plan:
    """Returns what :func:`depthwise_conv2d` will do."""
    _, channels_per_group, kh, kw = weight.shape
    if torch.jit.is_tracing():
        (channels_per_group, kh, kw), backend = _as_integers((channels_per_group, kh, kw)), backend or 'torch'
    if x.ndim != 4 or channels_per_group != 1 or x.device != weight.device:
        raise ValueError
    if stride == 1 and padding == 'same' and dilation == 1 and kh % 2 and kw % 2:
        geometry = Geometry((1, 1), (kh // 2, kw // 2), (1, 1), True)
    else:
        geometry = geometry_of((kh, kw), stride, padding, dilation)
    if backend is None:
        backend = choose_backend(x, weight, (kh, kw), geometry)
    elif (reason := why_not(backend, x, geometry)) is not None:
        raise ValueError(f'backend {backend!r} cannot compute this: {reason}')
    if backend == 'torch':  # PyTorch checks the operands itself
        return Plan(geometry, backend, False)
    check(x, weight, bias)
    return Plan(geometry, backend, memory_format.is_channels_last(x) or memory_format.is_channels_last(weight))


def _as_integers(sizes: Sequence[int | Tensor]) -> list[int]:
    """Returns sizes as integers: ``torch.jit.trace`` makes tensors of them, but those of a filter do not change."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        return [int(size) for size in sizes]


def _fast(plan: Plan, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool, is_plain: bool) -> Tensor:
    if is_autocast(x):
        x, weight, bias = autocast(x, weight, bias)
    (stride, padding, dilation, _), _, channels_last = plan
    if padding == 'same':  # of an even kernel: the odd zero goes to the right and the bottom
        total = [d * (k - 1) for k, d in zip(weight.shape[2:], dilation, strict=True)]
        x, padding = F.pad(x, (0, total[1] % 2, 0, total[0] % 2)), tuple(t // 2 for t in total)
    operands = x, weight, bias, relu, stride, padding, dilation, channels_last
    if not is_plain or custom_ops.is_watched():
        return custom_ops.depthwise_conv2d(*operands)
    is_differentiated = x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    if torch.is_grad_enabled() and is_differentiated:
        return custom_ops.DepthwiseConv2d.apply(*operands)
    return passes.forward(*operands)
