"""Sparse weights: how many weights each layer keeps, which ones, and how these change during training.

A mask is a boolean tensor of its weight's shape, True where the weight is trained and False where it is zero.

Source: "More ConvNets in the 2020s: Scaling up Kernels Beyond 51x51 using Sparsity", arXiv 2207.03620, Section 3.3;
``sparse_core.py`` of https://github.com/VITA-Group/SLaK.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

LAST_PRUNE_RATE = 0.005


def sparsifiable(module: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the weights that masks apply to, by name: those of the convolutions and linear layers of ``module``."""
    layers = {f'{name}.weight' if name else 'weight': layer for name, layer in module.named_modules()
              if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd))}
    return {name: layer.weight for name, layer in layers.items()}


def snip_counts(weights: Sequence[Tensor], gradients: Sequence[Tensor], sparsity: float) -> list[int]:
    """Returns how many weights each layer keeps if the best of all layers together are kept.

    Args:
        weights: Those of each layer.
        gradients: The gradients of the loss with respect to them, of the same shapes.
        sparsity: The share of all weights to drop, so that a whole number of weights is kept.

    Returns:
        The numbers of weights, one for each layer.

    Source: "SNIP: Single-shot Network Pruning based on Connection Sensitivity", arXiv 1810.02340: weights are ranked by
    ``|weight * gradient|``.
    """
    scores = torch.cat([(weight * grad).abs().flatten() for weight, grad in zip(weights, gradients, strict=True)])
    keeps = round((1 - sparsity) * len(scores))
    is_kept = torch.zeros_like(scores, dtype=torch.bool)
    is_kept[_largest(scores, keeps)] = True
    return [int(part.sum()) for part in is_kept.split([weight.numel() for weight in weights])]


def random_mask(weight: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Returns a mask of ``weight`` with ``count`` weights drawn by ``generator``, a generator on the CPU."""
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[torch.randperm(len(mask), generator=generator)[:count]] = True
    return mask.view(weight.shape).to(weight.device)


def prune_rate_at(step: int, steps: int, first: float) -> float:
    """Returns the share of a layer's weights to exchange, which falls from ``first`` to half a percent as a cosine.

    Args:
        step: The number of optimizer steps so far.
        steps: The number of optimizer steps in the whole training.
        first: The share before the first step.
    """
    return LAST_PRUNE_RATE + (first - LAST_PRUNE_RATE) * (1 + math.cos(math.pi * step / steps)) / 2


def exchange(weight: Tensor, mask: Tensor, prune_rate: float, generator: torch.Generator,
             gradient: Tensor | None = None) -> Tensor:
    """Drops a layer's smallest weights and grows as many masked ones, to which the dropped ones then belong.

    Args:
        weight: The weights of the layer.
        mask: Their mask.
        prune_rate: The share of the kept weights to drop, rounded up to a whole number of weights.
        generator: A generator on the CPU, which draws the weights that grow.
        gradient: If given, the weights with the largest gradients grow instead.

    Returns:
        A new mask with as many weights.
    """
    mask, magnitudes = mask.flatten().clone(), weight.detach().abs().flatten()
    (kept, ) = mask.nonzero(as_tuple=True)
    dropped = math.ceil(prune_rate * len(kept))
    mask[kept[_largest(-magnitudes[kept], dropped)]] = False
    (free, ) = mask.logical_not().nonzero(as_tuple=True)
    if gradient is None:
        grown = torch.randperm(len(free), generator=generator)[:dropped].to(free.device)
    else:
        grown = _largest(gradient.abs().flatten()[free], dropped)
    mask[free[grown]] = True
    return mask.view(weight.shape)


@torch.no_grad()
def apply_masks(weights: Mapping[str, nn.Parameter], masks: Mapping[str, Tensor],
                optimizer: torch.optim.Optimizer | None = None) -> None:
    """Sets masked weights to zero, and their momentum in SGD too.

    Adam's averages stay, as in the official code: a weight that grows starts at zero, and with averages of the
    gradients that it had while it was masked.
    """
    for name, mask in masks.items():
        weights[name].mul_(mask)
        momentum = optimizer.state.get(weights[name], {}).get('momentum_buffer') if optimizer is not None else None
        if momentum is not None:
            momentum.mul_(mask)


@torch.no_grad()
def mask_average(average: Tensor, weight: Tensor, mask: Tensor) -> None:
    """Applies the mask to a moving average of ``weight``, before the average is updated.

    Weights that have grown start from the weight itself: averaged from zero, they would be too small for as long as the
    average remembers. Dropped weights become zero at once, or they would fade as slowly.
    """
    weight, mask = weight.to(average), mask.to(average.device)
    average.copy_(torch.where(mask, torch.where(average == 0, weight, average), torch.zeros_like(average)))


def _largest(values: Tensor, count: int) -> Tensor:
    """Returns the indices of the largest values; ties, common among zeros, are broken the same way on every device."""
    return values.argsort(descending=True, stable=True)[:count]
