"""Layers for inference on CPUs: filters laid out once, activations and residual additions in the same pass.

They take and return channels-last maps, compute the same function as the layers they replace, and have neither
gradients nor a state dict. :func:`packed` makes them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..ops import memory_format
from ..ops.cpu import facts
from ..ops.cpu.packed import PackedConvolution, PackedLinear
from ..ops.cpu.prepared import PreparedFilter

# Numbers between the two layers of an MLP at a time: 8 MiB, which stay in the cache and reuse their memory.
HIDDEN = 2**21
# How to pack modules that have no method ``packed()`` of their own, by their exact class.
PACKERS: dict[type[nn.Module], Callable[[nn.Module], nn.Module]] = {}


def packed(module: nn.Module) -> nn.Module:
    """Returns the packed form of ``module``, which is ``module`` itself with parts replaced, or another module.

    Convolutions and linear layers are replaced by themselves only in lists of layers: other modules may use more of
    them than their results.

    Args:
        module: In evaluation mode, merged and folded, and without need of gradients; it is of no use afterwards.
    """
    if hasattr(module, 'packed'):
        return module.packed()
    if type(module) in PACKERS:
        return PACKERS[type(module)](module)
    is_list = type(module) in (nn.Sequential, nn.ModuleList)
    for name, child in module.named_children():
        if is_list or type(child) not in (nn.Conv2d, nn.Linear):
            setattr(module, name, packed(child))
    return module


def activation_of(module: nn.Module | None) -> str | None:
    """Returns the name of an activation that packed layers compute in the same pass; KeyError for another one."""
    if type(module) is nn.GELU:
        return {'none': 'gelu', 'tanh': 'gelu_tanh'}[module.approximate]
    return {type(None): None, nn.Identity: None, nn.ReLU: 'relu'}[type(module)]


def can_pack(conv: nn.Conv2d, activation: nn.Module | None = None) -> bool:
    """Whether there is a packed form of a convolution and the activation after it."""
    if type(activation) not in (type(None), nn.Identity, nn.ReLU, nn.GELU) or conv.padding_mode != 'zeros':
        return False
    if is_depthwise(conv):
        # PyTorch may be wrong about wider ones, or not return; the operator knows when.
        extent = max(d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
        return extent <= facts.LARGEST_SOUND_ALONE or (is_same(conv) and type(activation) is not nn.GELU)
    return conv.padding != 'same'


def is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels == conv.out_channels


def is_same(conv: nn.Conv2d) -> bool:
    """Whether the kernel is odd, stride and dilation are 1, and the padding keeps the size of a map."""
    same = tuple(k // 2 for k in conv.kernel_size)
    return all(k % 2 for k in conv.kernel_size) and conv.stride == conv.dilation == (1, 1) and (
        conv.padding in ('same', same))


class PackedConv2d(nn.Module):
    """A packed ``nn.Conv2d`` with zeros as padding, and the activation after it; see :func:`pack_convolution`."""

    def __init__(self, conv: nn.Conv2d, activation: str | None = None):
        super().__init__()
        padding = (0, 0) if conv.padding == 'valid' else conv.padding
        self._convolution = PackedConvolution(conv.weight, conv.bias, conv.stride, padding, conv.dilation, conv.groups,
                                              activation)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, C', H', W')``."""
        return self._convolution(memory_format.convert(x, True))


class PackedPointwise(nn.Module):
    """A packed 1x1 convolution, or linear layer of every pixel, and the activation after it."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, activation: str | None = None):
        super().__init__()
        self._linear = PackedLinear(layer.weight.flatten(1), layer.bias, activation)

    def forward(self, x: Tensor, summand: Tensor | None = None) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, C', H, W)``, with ``summand`` of that shape instead of the activation."""
        return as_maps(self._linear(as_rows(x), None if summand is None else as_rows(summand)), x.shape)


class PackedLinearLayer(nn.Module):
    """A packed ``nn.Linear``, and the activation after it."""

    def __init__(self, linear: nn.Linear, activation: str | None = None):
        super().__init__()
        self._linear = PackedLinear(linear.weight, linear.bias, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(..., in_features)`` to ``(..., out_features)``."""
        return self._linear(x.reshape(-1, x.shape[-1])).unflatten(0, x.shape[:-1])


class PackedMLP(nn.Module):
    """Two linear layers of every pixel with an activation between them, computed for some pixels at a time."""

    def __init__(self, first: nn.Conv2d | nn.Linear, activation: str | None, second: nn.Conv2d | nn.Linear):
        super().__init__()
        self._first = PackedLinear(first.weight.flatten(1), first.bias, activation)
        self._second = PackedLinear(second.weight.flatten(1), second.bias)
        self._pixels = max(1, HIDDEN // len(first.weight))

    def forward(self, x: Tensor, summand: Tensor | None = None) -> Tensor:
        """Maps ``(N, C, H, W)`` to ``(N, C', H, W)``, plus ``summand`` of that shape."""
        rows = as_rows(x)
        others = rows.new_empty(0, 0) if summand is None else as_rows(summand)
        if len(rows) <= self._pixels:
            return as_maps(self._second(self._first(rows), None if summand is None else others), x.shape)
        out = None
        for i in range(0, len(rows), self._pixels):
            part = slice(i, i + self._pixels)
            done = self._second(self._first(rows[part]), None if summand is None else others[part])
            out = done.new_empty(len(rows), done.shape[1]) if out is None else out
            out[part] = done
        return as_maps(out, x.shape)


class PackedDepthwiseConv2d(nn.Module):
    """A depthwise convolution with an odd kernel, "same" padding and stride 1, and ReLU after it if asked."""

    def __init__(self, conv: nn.Conv2d, activation: str | None = None):
        super().__init__()
        self._filter = PreparedFilter(conv.weight, conv.bias, activation == 'relu')

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to the same."""
        return self._filter(memory_format.convert(x, True))


class Residual(nn.Module):
    """``x + last(... first(x))``, where ``last`` adds in the same pass."""

    def __init__(self, layers: Sequence[nn.Module], last: PackedPointwise | PackedMLP):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to the same."""
        x = memory_format.convert(x, True)
        return self.last(self.layers(x), x)


def as_rows(x: Tensor) -> Tensor:
    """Returns maps ``(N, C, H, W)`` as ``(N * H * W, C)``, channels-last ones without a copy."""
    return memory_format.convert(x, True).permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def as_maps(rows: Tensor, shape: torch.Size) -> Tensor:
    """Returns rows ``(N * H * W, C')`` as channels-last maps with the ``(N, ..., H, W)`` of ``shape``."""
    n, _, h, w = shape
    return rows.view(n, h, w, -1).permute(0, 3, 1, 2)


def pack_convolution(conv: nn.Conv2d, activation: str | None = None) -> nn.Module:
    """Returns the packed form of a convolution that :func:`can_pack` and the activation after it."""
    if is_depthwise(conv) and is_same(conv) and activation in (None, 'relu'):
        return PackedDepthwiseConv2d(conv, activation)
    is_pointwise = (conv.kernel_size, conv.stride, conv.groups) == ((1, 1), (1, 1), 1)
    if is_pointwise and conv.padding in ('valid', (0, 0)):
        return PackedPointwise(conv, activation)
    return PackedConv2d(conv, activation)


PACKERS[nn.Conv2d] = lambda conv: pack_convolution(conv) if can_pack(conv) else conv
PACKERS[nn.Linear] = PackedLinearLayer
