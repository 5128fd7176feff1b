"""What the operator counts in ``torch.utils.flop_counter.FlopCounterMode``, wherever it runs.

Two for each tap of each output, taps outside the map included, as PyTorch counts a convolution. (PyTorch counts the
weight gradient of a depthwise convolution C times over.)
"""

import math

import torch
from torch.utils.flop_counter import register_flop_formula

from . import depthwise_conv2d  # noqa: F401, defines the operators

_operators = torch.ops.mmreplk


@register_flop_formula([_operators.depthwise_conv2d, _operators.depthwise_conv2d_grad_input])
def _convolution(shape: torch.Size, weight_shape: torch.Size, *_, **__) -> int:
    return 2 * math.prod(shape) * math.prod(weight_shape[2:])


@register_flop_formula(_operators.depthwise_conv2d_grad_weight)
def _grad_weight(shape: torch.Size, grad_shape: torch.Size, kernel_height: int, kernel_width: int, **_) -> int:
    return 2 * math.prod(shape) * kernel_height * kernel_width
