"""Large-kernel operators. Imports torch only, nothing of OpenMMLab."""

from .depthwise_conv2d import depthwise_conv2d

__all__ = ['depthwise_conv2d']
