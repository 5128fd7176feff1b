"""Large kernels as transposed convolutions, which OpenVINO computes faster at some sizes."""

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import InputError
from ...layers.packed import is_depthwise, is_same


def use_transposed_kernels(network: nn.Module, size: int) -> None:
    """Replaces depthwise convolutions by transposed ones with the flipped filter, which compute the same.

    Args:
        network: Merged; changed in place.
        size: Of the kernels to replace, with stride and dilation 1 and "same" padding.

    Raises:
        InputError: If it has none.
    """
    found = {name: conv for name, conv in network.named_modules() if _is_square(conv)}
    sizes = sorted({conv.kernel_size[0] for conv in found.values()})
    if size not in sizes:
        raise InputError(f'no depthwise convolution with stride 1 has a kernel of {size}x{size}; there are '
                         f'{", ".join(map(str, sizes)) or "none"}')
    for name, conv in found.items():
        if conv.kernel_size[0] == size:
            parent, _, child = name.rpartition('.')
            setattr(network.get_submodule(parent), child, TransposedDepthwiseConv2d(conv))


def _is_square(module: nn.Module) -> bool:
    return (isinstance(module, nn.Conv2d) and is_depthwise(module) and module.padding_mode == 'zeros' and
            is_same(module) and module.kernel_size[0] == module.kernel_size[1])


class TransposedDepthwiseConv2d(nn.Module):
    """A depthwise convolution with "same" padding and stride 1, as a transposed one."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.padding = tuple(k // 2 for k in conv.kernel_size)
        self.weight = nn.Parameter(conv.weight.detach().flip(-1, -2), requires_grad=False)
        self.bias = conv.bias

    def forward(self, x: Tensor, activation: str | None = None) -> Tensor:
        """Maps ``(N, C, H, W)`` to the same, as :class:`mmreplk.layers.conv.LargeKernelConv2d` does."""
        out = F.conv_transpose2d(x, self.weight, self.bias, padding=self.padding, groups=len(self.weight))
        return F.relu(out) if activation == 'relu' else out
