"""Large-kernel operators. Imports torch only, nothing of OpenMMLab."""

from . import flops  # noqa: F401, registers
from .choice import backends
from .functional import depthwise_conv2d, may_gain

__all__ = ['backends', 'depthwise_conv2d', 'may_gain']
