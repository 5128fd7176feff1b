"""Folding and packing of MMCV's ``ConvModule``, which heads and necks are made of; acceleration of its ``Conv2d``."""

from mmcv.cnn import Conv2d, ConvModule
from torch import nn

from ..acceleration import ACCELERATED
from ..layers import LargeKernelConv2d
from ..layers.folding import BatchNorm, biased, fold_bn
from ..layers.packed import activation_of, can_pack, pack_convolution
from ..merging import FOLDERS, Folder


def applies(module: ConvModule) -> bool:
    """Whether it is a plain convolution whose output goes into a BatchNorm."""
    return (module.order[:2] == ('conv', 'norm') and module.with_norm and isinstance(module.norm, BatchNorm)
            and module.norm.track_running_stats and type(module.conv) in {*ACCELERATED, *ACCELERATED.values()}
            and not module.with_spectral_norm
            and not getattr(module, 'efficient_conv_bn_eval_forward', None))


def fold(module: ConvModule) -> None:
    module.conv = biased(module.conv, *fold_bn(module.conv, module.norm))
    setattr(module, module.norm_name, nn.Identity())


def can_pack_module(module: ConvModule) -> bool:
    """Whether a folded module has a packed form."""
    is_plain = module.order == ('conv', 'norm', 'act') and not module.with_explicit_padding
    return is_plain and can_pack(module.conv, module.activate if module.with_activation else None)


def pack(module: ConvModule) -> nn.Module:
    """Returns the packed form of a folded module, or itself where it has none."""
    if not can_pack_module(module):
        return module
    return pack_convolution(module.conv, activation_of(module.activate if module.with_activation else None))


class AcceleratedMMCVConv2d(Conv2d):
    """What :func:`mmreplk.accelerate` makes of MMCV's ``Conv2d``, which from PyTorch 1.5 on acts like PyTorch's."""

    forward = LargeKernelConv2d.forward


ACCELERATED[Conv2d] = AcceleratedMMCVConv2d
FOLDERS[ConvModule] = Folder(applies, fold, pack)
