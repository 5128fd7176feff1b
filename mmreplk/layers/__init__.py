"""Layers of large-kernel networks. Imports torch only."""

from .branches import Branch, MergeableConv, ReparamLargeKernelConv
from .conv import LargeKernelConv2d

__all__ = ['Branch', 'LargeKernelConv2d', 'MergeableConv', 'ReparamLargeKernelConv']
