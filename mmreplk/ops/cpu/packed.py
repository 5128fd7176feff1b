"""Convolutions and linear layers whose filters oneDNN lays out once, with activation and addition in the same pass.

PyTorch's own layers lay a filter out at each call, multiply float32 matrices on AMD's processors without AVX-512, and
read the result again to activate it. The operators here are PyTorch's, but private: :func:`why_not` tries them.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from . import facts

ACTIVATIONS = {None: ('none', ''), 'relu': ('relu', ''), 'gelu': ('gelu', 'none'), 'gelu_tanh': ('gelu', 'tanh')}
# The number of rows that a linear layer's weight is laid out for; it takes any.
ROWS = 1024


class PackedLinear:
    """``activation(rows @ weight.T + bias)``, or with a summand instead of the activation.

    Args:
        weight: ``(out_channels, in_channels)``; rows must have its dtype.
        bias: ``(out_channels,)``; None for none.
        activation: One of ``ACTIVATIONS``.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: str | None = None):
        self._weight = torch.ops.mkldnn._reorder_linear_weight.default(weight.detach().contiguous(), ROWS)
        self._bias = None if bias is None else bias.detach()
        self._activation = ACTIVATIONS[activation]

    def __call__(self, rows: Tensor, summand: Tensor | None = None) -> Tensor:
        """Maps ``(M, in_channels)`` to ``(M, out_channels)``, which is the shape of ``summand`` too."""
        # The overloads are named: choosing one reads every number of the bias.
        if summand is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(rows, summand, self._weight, self._bias, 'add')
        name, algorithm = self._activation
        return torch.ops.mkldnn._linear_pointwise.default(rows, self._weight, self._bias, name, [], algorithm)


class PackedConvolution:
    """A convolution of channels-last maps.

    Args:
        weight: ``(out_channels, in_channels / groups, KH, KW)``; maps must have its dtype.
        bias: ``(out_channels,)``; None for none.
        stride: Step between outputs, in input pixels.
        padding: Zeros on each side, in pixels.
        dilation: Step between taps, in input pixels.
        groups: Groups.
        activation: One of ``ACTIVATIONS``.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: tuple[int, int], padding: tuple[int, int],
                 dilation: tuple[int, int], groups: int, activation: str | None = None):
        self._geometry = list(padding), list(stride), list(dilation), groups
        self._weight = weight.detach().contiguous(), False  # and whether it is packed
        self._bias = None if bias is None else bias.detach()
        self._activation = ACTIVATIONS[activation]

    def __call__(self, x: Tensor) -> Tensor:
        """Maps channels-last ``(N, in_channels, H, W)`` to channels-last ``(N, out_channels, H', W')``."""
        weight, is_packed = self._weight  # which another thread may replace
        if not is_packed:
            # Packed for no size in particular, oneDNN may lay it out anew at each call, at forty times the cost.
            weight = torch.ops.mkldnn._reorder_convolution_weight.default(weight, *self._geometry, list(x.shape))
            self._weight = weight, True
        name, algorithm = self._activation
        return torch.ops.mkldnn._convolution_pointwise.default(
            x, weight, self._bias, *self._geometry, name, [], algorithm)


@functools.cache
def why_not(dtype: torch.dtype) -> str | None:
    """Returns why filters of ``dtype`` cannot be packed with this PyTorch on this CPU; None if they can."""
    if not facts.IS_SUPPORTED:
        return 'it needs an x86 CPU with AVX2 and oneDNN'
    if dtype not in (torch.float32, torch.bfloat16):
        return f'it needs float32 or bfloat16, got {dtype}'
    if dtype in facts.SLOW_DTYPES:
        return f'this CPU has no instructions for {dtype}'
    try:
        return _fault(dtype)
    except Exception as error:  # private operators may change their names, arguments and results
        return f'{type(error).__name__}: {error}'.splitlines()[0]


@torch.no_grad()
def _fault(dtype: torch.dtype) -> str | None:
    """Tries both on whole numbers, which every dtype holds exactly; returns what is wrong, if anything is."""
    x = (torch.arange(2 * 16 * 3 * 3) % 5 - 2).view(2, 16, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
    weight = (torch.arange(16 * 16) % 3 - 1).view(16, 16, 1, 1).to(dtype)
    bias = (torch.arange(16) % 4).to(dtype)
    rows, expected = x.permute(0, 2, 3, 1).reshape(-1, 16), F.conv2d(x.double(), weight.double(), bias.double())
    convolved = PackedConvolution(weight, bias, (1, 1), (0, 0), (1, 1), 1, 'relu')(x)
    if not convolved.is_contiguous(memory_format=torch.channels_last) or not torch.equal(
            convolved.double(), expected.relu()):
        return 'PyTorch convolves wrongly with packed filters'
    added = PackedLinear(weight.flatten(1), bias)(rows, rows).double()
    if not torch.equal(added, expected.permute(0, 2, 3, 1).reshape(-1, 16) + rows.double()):
        return 'PyTorch multiplies wrongly with packed weights'
    return None
