"""Whether float32 may be multiplied in TF32."""

import torch


def allows_tf32() -> bool:
    """Whether PyTorch's convolutions may use TF32, by whichever of its switches this was set.

    From PyTorch 2.9 on, ``torch.backends.cudnn.conv.fp32_precision`` sums up the switches for everything, for cuDNN and
    for convolutions. The older ``torch.backends.cudnn.allow_tf32`` sets it too, but reading that raises an error once
    the new ones were used.
    """
    precision = getattr(getattr(torch.backends.cudnn, 'conv', None), 'fp32_precision', None)
    return torch.backends.cudnn.allow_tf32 if precision is None else precision == 'tf32'
