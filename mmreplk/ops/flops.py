"""How ``torch.utils.flop_counter.FlopCounterMode`` counts the operator, on any backend.

It counts two for each tap of each output, taps outside the map included, as PyTorch does for a convolution. (PyTorch
counts the weight gradient of a depthwise convolution C times too high.)
"""

import math

import torch
from torch.utils.flop_counter import register_flop_formula

from . import custom_ops  # noqa: F401, defines the operators

_operators = torch.ops.mmreplk


@register_flop_formula(_operators.depthwise_conv2d)
def _convolution(shape: torch.Size, weight_shape: torch.Size, *_, out_shape: torch.Size, **__) -> int:
    return 2 * math.prod(out_shape) * math.prod(weight_shape[2:])


@register_flop_formula(_operators.depthwise_conv2d_grad_input)
def _grad_input(grad_shape: torch.Size, weight_shape: torch.Size, *_, **__) -> int:
    return 2 * math.prod(grad_shape) * math.prod(weight_shape[2:])


@register_flop_formula(_operators.depthwise_conv2d_grad_weight)
def _grad_weight(shape: torch.Size, grad_shape: torch.Size, kernel_size: list[int], *_, **__) -> int:
    return 2 * math.prod(grad_shape) * math.prod(kernel_size)
