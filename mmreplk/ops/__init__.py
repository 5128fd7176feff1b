"""Large-kernel operators. Imports torch only, nothing of OpenMMLab."""

from . import flops  # noqa: F401, registers
from .functional import backends, depthwise_conv2d, may_gain

__all__ = ['backends', 'depthwise_conv2d', 'may_gain']
