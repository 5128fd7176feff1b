"""The effective receptive field: how much each pixel of an image contributes to the centre of the last feature map."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..layers.folding import BatchNorm
from ..merging import reparameterized

THRESHOLDS = (0.2, 0.3, 0.5, 0.99)


def contributions(backbone: nn.Module, images: Iterable[Tensor]) -> np.ndarray:
    """Averages over images the contribution of each pixel to the centre of the last feature map.

    Takes the last feature map at its centre, drops negative values, sums over channels and differentiates with respect
    to every pixel; negative gradients are dropped and the rest summed over the channels of the image.

    Args:
        backbone: Maps images ``(N, 3, H, W)`` to features ``(N, C, h, w)``, or to several of them, of which the last is
            used. It is put into evaluation mode.
        images: Normalized images, all of one size.

    Returns:
        Contributions ``(H, W)``, not negative, float64.

    Raises:
        InputError: If there is no image, the last output is not a feature map, or a value is not finite.

    Source: "Scaling Up Your Kernels to 31x31", arXiv 2203.06717, Section 5 and its appendix on visualizing the ERF.
    """
    backbone.eval()
    total: np.ndarray | float = 0.0
    count = 0
    with reparameterized(backbone):  # the same function, with half the activations to remember
        for image in images:
            gradient = _gradient(backbone, image)
            if not np.isfinite(gradient).all():
                raise InputError(f'the features of image {count}, counted from 0, or their gradient are not finite')
            total, count = total + gradient, count + 1
    if not count:
        raise InputError('there is no image to measure on')
    return total / count


def _gradient(backbone: nn.Module, image: Tensor) -> np.ndarray:
    """Returns the positive part of the gradient at the centre of the last feature map, summed over the channels."""
    pixels = image.detach().requires_grad_()
    features = backbone(pixels)
    last = features if isinstance(features, Tensor) else features[-1]
    if not isinstance(last, Tensor) or last.ndim != 4:
        raise InputError(f'the last output of {type(backbone).__name__} must be a feature map (N, C, H, W), got '
                         f'{tuple(last.shape) if isinstance(last, Tensor) else type(last).__name__}')
    height, width = last.shape[-2:]
    centre = last[:, :, height // 2, width // 2].relu().sum()
    gradient = torch.autograd.grad(centre, pixels)[0].relu().sum((0, 1))
    # A NaN in the features has no gradient and would go unnoticed.
    return (gradient + 0 * centre.detach()).double().cpu().numpy()


def scores(contribution: np.ndarray) -> np.ndarray:
    """Returns ``log10(contribution + 1)``, scaled to a largest value of 1: what the paper draws and measures areas in.

    Raises:
        InputError: If no pixel contributes anything.
    """
    logarithms = np.log10(contribution + 1)
    if not logarithms.max() > 0:
        raise InputError('no pixel contributes anything to the centre of the last feature map')
    return logarithms / logarithms.max()


def area_ratios(matrix: np.ndarray, thresholds: Iterable[float] = THRESHOLDS) -> dict[float, float]:
    """Returns which share of the image, around its centre, holds more than each threshold of the sum of ``matrix``.

    The larger it is, the more evenly pixels contribute. It is the area of the smallest centred square that suffices,
    with sides of 3, 5, ... pixels, or of the whole image if no square in it does.

    Args:
        matrix: What each pixel contributes, ``(H, W)``: the paper takes :func:`scores`.
        thresholds: Parts of the sum, from 0 to 1.

    Returns:
        The ratio of the areas, from 0 to 1, by threshold.

    Source: Official implementation, ``erf/analyze_erf.py``.
    """
    height, width = matrix.shape
    away = np.maximum.outer(abs(np.arange(height) - height // 2), abs(np.arange(width) - width // 2))
    inside = np.cumsum(np.bincount(away.ravel(), matrix.ravel()))
    ratios = {}
    for threshold in thresholds:
        wide = [i for i in range(1, min(height, width) // 2) if inside[i] > threshold * inside[-1]]
        ratios[threshold] = (2 * wide[0] + 1)**2 / (height * width) if wide else 1.0
    return ratios


@torch.no_grad()
def estimate_statistics(backbone: nn.Module, images: Iterable[Tensor]) -> None:
    """Sets the running statistics of every BatchNorm to their averages over ``images``.

    A network with random weights has no real ones: with means of 0 and variances of 1, its branches are negligible
    beside its shortcuts, as they never are in training.

    Args:
        backbone: The network; it is left in evaluation mode.
        images: Normalized images ``(N, 3, H, W)``.
    """
    backbone.eval()
    norms = [module for module in backbone.modules() if isinstance(module, BatchNorm) and module.track_running_stats]
    if not norms:
        return
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative average
        norm.train()
    try:
        for image in images:
            backbone(image)
    finally:
        for norm, momentum in zip(norms, kept, strict=True):
            norm.momentum = momentum
        backbone.eval()
