"""Trained models as files that need neither OpenMMLab nor this package."""

from .agreement import random_batches, real_batches
from .exporting import TOLERANCE, Exported, export
from .formats import FORMATS

__all__ = ['FORMATS', 'TOLERANCE', 'Exported', 'export', 'random_batches', 'real_batches']
