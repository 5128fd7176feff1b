"""Large-kernel operators. Imports torch only, nothing of OpenMMLab."""

from . import flops  # noqa: F401, registers
from .depthwise_conv2d import can_be_faster, depthwise_conv2d

__all__ = ['can_be_faster', 'depthwise_conv2d']
