"""The depthwise convolution as a layer."""

import torch.fx
from torch import Tensor, nn

from ..ops import depthwise_conv2d
from .packed import activation_of, can_pack, pack_convolution


class LargeKernelConv2d(nn.Conv2d):
    """An ``nn.Conv2d`` that runs on :func:`mmreplk.ops.depthwise_conv2d` wherever it is depthwise."""

    def forward(self, x: Tensor, activation: str | None = None) -> Tensor:
        """Maps ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``, through ``'relu'`` if asked.

        ``N`` may be missing, as for ``nn.Conv2d``.
        """
        if self.groups == self.in_channels == self.out_channels and self.padding_mode == 'zeros':
            padding = 0 if self.padding == 'valid' else self.padding
            return _convolve(x, self.weight, self.bias, self.stride, padding, self.dilation, activation)
        out = nn.Conv2d.forward(self, x)  # not super(): other subclasses of nn.Conv2d use this forward too
        return out if activation is None else out.relu()

    def packed(self, activation: nn.Module | None = None) -> nn.Module:
        """Returns the form for inference on CPUs, with the activation after it."""
        if can_pack(self, activation):
            return pack_convolution(self, activation_of(activation))
        return self if activation is None else nn.Sequential(self, activation)


@torch.fx.wrap  # torch.fx traces into layers outside torch.nn, and cannot trace an if
def _convolve(x: Tensor, *layer) -> Tensor:
    """Convolves ``x``, with or without a batch axis."""
    if isinstance(x, Tensor) and x.ndim == 3:
        return depthwise_conv2d(x[None], *layer)[0]
    return depthwise_conv2d(x, *layer)
