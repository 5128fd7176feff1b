"""What the kernels ask of tensors, and of the GPU that holds them."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor
from triton.backends.nvidia.compiler import CUDAOptions

from ..tf32 import allows_tf32
from .cost import GPUS, Gpu
from .tiles import ALIGN

# Three products in bfloat16 in place of one in float32 came with Triton 3.6.
HAS_BF16X3 = 'bf16x3' in CUDAOptions.allowed_dot_input_precisions


def aligned(t: Tensor) -> Tensor:
    """Returns ``t (..., W)`` contiguous, with zeros up to a multiple of ALIGN columns, from a 16-byte boundary on.

    Every row can then be copied 16 bytes at a time; zeros to the right are what "same" padding puts there anyway.
    """
    padding = -t.shape[-1] % ALIGN
    t = (F.pad(t, (0, padding)) if padding else t).contiguous()
    return t.clone() if t.data_ptr() % 16 else t


def precision_of(t: Tensor) -> str:
    """Returns how float32 is multiplied: by one TF32 product if PyTorch's convolutions may, else by three."""
    return 'tf32' if t.dtype != torch.float32 or allows_tf32() else 'tf32x3'


def gpu_of(t: Tensor) -> Gpu:
    """Returns what is known of the GPU that ``t`` is on; of an A100 if it is on none."""
    return _gpu(t.device) if t.is_cuda else GPUS[80]


@functools.cache
def _gpu(device: torch.device) -> Gpu:
    properties = torch.cuda.get_device_properties(device)
    capability = 10 * properties.major + properties.minor
    known = GPUS[max(c for c in GPUS if c <= max(80, capability))]
    shared = getattr(properties, 'shared_memory_per_block_optin', known.shared_limit)
    return known._replace(capability=capability, sms=properties.multi_processor_count, shared_limit=shared)
