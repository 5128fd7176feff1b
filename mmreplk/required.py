"""Says which PyTorch this package needs, before anything that uses it is imported."""

import torch

# The first that has everything used here; the newest of it is torch.compiler.is_exporting.
LEAST_TORCH = (2, 7)

if tuple(int(part) for part in torch.__version__.split('.')[:2]) < LEAST_TORCH:
    raise ImportError(f'mmreplk needs PyTorch {".".join(map(str, LEAST_TORCH))} or newer, got {torch.__version__}')
