"""Whether float32 may be multiplied in TF32."""

import torch


def allows_tf32() -> bool:
    """Whether PyTorch's convolutions may, by whichever of its switches it was told.

    From PyTorch 2.9 on ``torch.backends.cudnn.conv.fp32_precision`` sums up those for everything, for cuDNN and for
    convolutions; the older ``torch.backends.cudnn.allow_tf32`` sets it too, but raises once they were used.
    """
    precision = getattr(getattr(torch.backends.cudnn, 'conv', None), 'fp32_precision', None)
    return torch.backends.cudnn.allow_tf32 if precision is None else precision == 'tf32'
