"""The operands and options of the convolution: what they must be, and what autocast makes of them."""

from typing import NamedTuple

import torch
from torch import Tensor

from .tracing import constant

# What autocast lowers; it leaves float64 alone.
LOWERED = (torch.float32, torch.bfloat16, torch.float16)


class Geometry(NamedTuple):
    """Stride, padding and dilation as ``F.conv2d`` takes them, and whether an odd kernel keeps the map's size."""
    stride: tuple[int, int]
    padding: str | tuple[int, int]
    dilation: tuple[int, int]
    is_same: bool


def geometry_of(kernel_size: tuple[int, int], stride, padding, dilation) -> Geometry:
    stride, dilation = _pair('stride', stride, 1), _pair('dilation', dilation, 1)
    is_odd = all(k % 2 for k in kernel_size)
    same = tuple(d * (k // 2) for d, k in zip(dilation, kernel_size, strict=True))
    if padding != 'same':
        padding = _pair('padding', padding, 0)
    elif is_odd:
        padding = same
    elif stride != (1, 1):
        raise ValueError(f"padding 'same' needs an odd kernel where the stride is not 1, got a kernel of {kernel_size}")
    return Geometry(stride, padding, dilation, is_odd and stride == (1, 1) and padding == same)


def _pair(name: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else value
    is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
    if not is_pair or not all(isinstance(v, int) and v >= least for v in pair):
        allowed = "'same', " if name == 'padding' else ''
        raise ValueError(f'{name} must be {allowed}an integer >= {least} or a pair of them, got {value!r}')
    return tuple(pair)


def check(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Raises TypeError or ValueError if something is wrong with the operands."""
    operands = dict(x=x, weight=weight) if bias is None else dict(x=x, weight=weight, bias=bias)
    for name, tensor in operands.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f'{name} must be a torch.Tensor, got {type(tensor).__name__}')
        if tensor.dtype != x.dtype and not is_autocast(x, tensor):
            raise TypeError(f'{name} must have the dtype of x, {x.dtype}, got {tensor.dtype}')
        if tensor.device != x.device:
            raise ValueError(f'{name} must be on the device of x, {x.device}, got {tensor.device}')
    if not x.is_floating_point():
        raise TypeError(f'x must be of a floating-point dtype, got {x.dtype}')
    if x.ndim != 4:
        raise ValueError(f'x must have shape (N, C, H, W), got {tuple(x.shape)}')
    channels = x.shape[1]
    if weight.ndim != 4 or weight.shape[:2] != (channels, 1) or 0 in weight.shape[2:]:
        raise ValueError(f'weight must have shape ({channels}, 1, KH, KW), one filter for each of the {channels} '
                         f'channels of x, got {tuple(weight.shape)}')
    if bias is not None and bias.shape != (channels,):
        raise ValueError(f'bias must have shape ({channels},), got {tuple(bias.shape)}')


def is_relu(activation: str | None) -> bool:
    if activation not in (None, 'relu'):
        raise ValueError(f"activation must be None or 'relu', got {activation!r}")
    return activation == 'relu'


def is_autocast(*tensors: Tensor) -> bool:
    """Whether autocast gives all ``tensors`` one dtype."""
    device = tensors[0].device.type
    if not _has_autocast(device) or not torch.is_autocast_enabled(device):
        return False
    return all(t.dtype in LOWERED for t in tensors)


@constant
def _has_autocast(device: str) -> bool:
    """Whether there is autocast on a kind of device, which Dynamo cannot ask in PyTorch 2.11."""
    return torch.amp.is_autocast_available(device)


def compute_dtype(x: Tensor) -> torch.dtype:
    """Returns the dtype that autocast gives ``x`` in ``F.conv2d``."""
    return torch.get_autocast_dtype(x.device.type) if is_autocast(x) else x.dtype


def autocast(x: Tensor, *others: Tensor | None) -> list[Tensor | None]:
    """Casts operands as autocast does for ``F.conv2d``."""
    dtype = compute_dtype(x)
    return [t if t is None else t.to(dtype) for t in (x, *others)]


def wanted_gradients(x: Tensor, weight: Tensor) -> tuple[bool, bool]:
    """Returns whether the gradient of ``x`` will be needed, and whether that of ``weight`` will."""
    return (x.requires_grad, weight.requires_grad) if torch.is_grad_enabled() else (False, False)
