"""The three passes of a "same", stride-1 depthwise convolution on tensor cores, written in Triton.

Imported only when a CUDA tensor needs it, and nothing else in the package imports Triton. ``TRITON_INTERPRET=1``, set
before Triton is imported, runs the same launchers on CPU tensors, slowly. ``docs/triton_kernels.md`` explains the
kernels.
"""

from .forward import forward, grad_input
from .grad_weight import grad_weight

__all__ = ['forward', 'grad_input', 'grad_weight']
