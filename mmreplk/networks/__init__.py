"""Large-kernel networks. Imports torch only."""

from .base import LargeKernelBackbone
from .replknet import RepLKNet
from .slak import SLaK
from .unireplknet import UniRepLKNet

# By the name that checkpoints and messages give them.
NETWORKS: dict[str, type[LargeKernelBackbone]] = {cls.__name__: cls for cls in (RepLKNet, UniRepLKNet, SLaK)}

__all__ = ['NETWORKS', 'LargeKernelBackbone', 'RepLKNet', 'SLaK', 'UniRepLKNet']
