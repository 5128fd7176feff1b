"""BatchNorm in evaluation is an affine map of each channel: it folds into the layer before or after it."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

Layer = nn.Conv2d | nn.Linear


@torch.no_grad()
def fold_bn(layer: Layer, bn: BatchNorm | None, before: BatchNorm | None = None) -> tuple[Tensor, Tensor]:
    """Returns the weight and bias of the one layer that equals ``before``, ``layer`` and ``bn`` in evaluation.

    Half-precision parameters are folded, and returned, in float32.

    Args:
        layer: A convolution, ``(out_channels, in_channels / groups, KH, KW)``, or a linear layer of the last axis,
            ``(out_channels, in_channels)``.
        bn: The BatchNorm after the layer; None for none.
        before: The BatchNorm before the layer; None for none. Exact only for a 1x1 convolution without padding, because
            zeros are padded after this BatchNorm, not before it.

    Returns:
        Weight of the shape of ``layer.weight``, and bias ``(out_channels,)``.
    """
    weight = layer.weight.to(torch.promote_types(layer.weight.dtype, torch.float32))
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.to(weight.dtype)
    if before is not None:
        assert weight[0, 0].numel() == 1 and (isinstance(layer, nn.Linear) or layer.groups == 1)
        scale, shift = affine(before, weight.dtype)
        bias = bias + weight.flatten(1) @ shift
        weight = weight * _along(scale, 1, weight)
    if bn is not None:
        scale, shift = affine(bn, weight.dtype)
        weight, bias = weight * _along(scale, 0, weight), bias * scale + shift
    return weight, bias


def biased(layer: Layer, weight: Tensor, bias: Tensor) -> Layer:
    """Returns a layer like ``layer`` but with these parameters, cast to its dtype."""
    if isinstance(layer, nn.Linear):
        twin = type(layer)(layer.in_features, layer.out_features, device='meta')
    else:
        twin = type(layer)(
            layer.in_channels, layer.out_channels, tuple(weight.shape[2:]), layer.stride, layer.padding, layer.dilation,
            layer.groups, padding_mode=layer.padding_mode, device='meta')
    twin.weight = nn.Parameter(weight.to(layer.weight.dtype), requires_grad=layer.weight.requires_grad)
    twin.bias = nn.Parameter(bias.to(layer.weight.dtype), requires_grad=layer.weight.requires_grad)
    return twin.train(layer.training)


def affine(bn: BatchNorm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Returns the factor and the summand of each channel."""
    scale = torch.rsqrt(bn.running_var.to(dtype) + bn.eps)
    if bn.weight is not None:
        scale = scale * bn.weight.to(dtype)
    shift = -bn.running_mean.to(dtype) * scale
    return scale, shift if bn.bias is None else shift + bn.bias.to(dtype)


def fold(module: nn.Module) -> None:
    """Folds ``module`` for good: calls ``fuse_bn()`` on each outermost part that has one."""
    if hasattr(module, 'fuse_bn'):
        module.fuse_bn()
        return
    for child in module.children():
        fold(child)


def _along(values: Tensor, axis: int, weight: Tensor) -> Tensor:
    shape = [1] * weight.ndim
    shape[axis] = -1
    return values.view(shape)
