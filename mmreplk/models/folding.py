"""BatchNorm in evaluation is an affine map of each channel: it folds into the convolution before or after it."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def fold_bn(conv: nn.Conv2d, bn: _BatchNorm | None, before: _BatchNorm | None = None) -> tuple[Tensor, Tensor]:
    """Returns the weight and bias of the one convolution that equals ``before``, ``conv`` and ``bn`` in evaluation.

    Half-precision parameters are folded, and returned, in float32.

    Args:
        conv: The convolution, ``(out_channels, in_channels / groups, KH, KW)``.
        bn: What follows it; None for nothing.
        before: What comes before it; None for nothing. Exact only where ``conv`` is 1x1 without padding: padded zeros
            are zeros after the BatchNorm, not before it.

    Returns:
        Weight of the shape of ``conv.weight``, and bias ``(out_channels,)``.
    """
    weight = conv.weight.to(torch.promote_types(conv.weight.dtype, torch.float32))
    bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.to(weight.dtype)
    if before is not None:
        assert conv.kernel_size == (1, 1) and conv.padding == (0, 0) and conv.groups == 1
        scale, shift = _affine(before, weight.dtype)
        bias = bias + weight.flatten(1) @ shift
        weight = weight * scale.view(1, -1, 1, 1)
    if bn is not None:
        scale, shift = _affine(bn, weight.dtype)
        weight, bias = weight * scale.view(-1, 1, 1, 1), bias * scale + shift
    return weight, bias


def biased(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Returns a convolution like ``conv`` but with these parameters, cast to its dtype."""
    twin = type(conv)(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups,
        padding_mode=conv.padding_mode, device='meta')  # yapf: disable
    twin.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=conv.weight.requires_grad)
    twin.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=conv.weight.requires_grad)
    return twin.train(conv.training)


def _affine(bn: _BatchNorm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Returns the factor and the summand of each channel."""
    scale = torch.rsqrt(bn.running_var.to(dtype) + bn.eps)
    if bn.weight is not None:
        scale = scale * bn.weight.to(dtype)
    shift = -bn.running_mean.to(dtype) * scale
    return scale, shift if bn.bias is None else shift + bn.bias.to(dtype)
