"""What the kernels ask of tensors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .tiles import ALIGN


def aligned(t: Tensor) -> Tensor:
    """Returns ``t (..., W)`` contiguous, with zeros up to a multiple of ALIGN columns, from a 16-byte boundary on.

    Every row can then be copied 16 bytes at a time; zeros to the right are what "same" padding puts there anyway.
    """
    padding = -t.shape[-1] % ALIGN
    t = (F.pad(t, (0, padding)) if padding else t).contiguous()
    return t.clone() if t.data_ptr() % 16 else t


def precision_of(t: Tensor) -> str:
    """Returns how float32 is multiplied: by one TF32 product where PyTorch's convolutions may, else by three."""
    return 'tf32' if t.dtype != torch.float32 or torch.backends.cudnn.allow_tf32 else 'tf32x3'


def generation(t: Tensor) -> int:
    """Returns the compute capability of the GPU that ``t`` is on, without the fraction; 8 where it is on none."""
    return torch.cuda.get_device_capability(t.device)[0] if t.is_cuda else 8
