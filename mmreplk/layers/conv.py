"""The depthwise convolution as a layer."""

from torch import Tensor, nn

from ..ops import depthwise_conv2d


class LargeKernelConv2d(nn.Conv2d):
    """An ``nn.Conv2d`` that runs on :func:`mmreplk.ops.depthwise_conv2d` wherever it is depthwise."""

    def forward(self, x: Tensor, activation: str | None = None) -> Tensor:
        """Maps ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``, through ``'relu'`` if asked."""
        if self.groups == self.in_channels == self.out_channels and self.padding_mode == 'zeros':
            padding = 0 if self.padding == 'valid' else self.padding
            return depthwise_conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, activation)
        out = super().forward(x)
        return out if activation is None else out.relu()
