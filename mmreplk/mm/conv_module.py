"""How MMCV's ``ConvModule``, of which heads and necks consist, is folded."""

from mmcv.cnn import ConvModule
from torch import nn

from ..layers.folding import BatchNorm, biased, fold_bn
from ..merging import FOLDERS, Folder


def _applies(module: ConvModule) -> bool:
    """Whether it is a plain convolution whose output goes into a BatchNorm."""
    return (module.order[:2] == ('conv', 'norm') and module.with_norm and isinstance(module.norm, BatchNorm)
            and module.norm.track_running_stats and type(module.conv) is nn.Conv2d and not module.with_spectral_norm
            and not getattr(module, 'efficient_conv_bn_eval_forward', None))  # yapf: disable


def _fold(module: ConvModule) -> None:
    module.conv = biased(module.conv, *fold_bn(module.conv, module.norm))
    setattr(module, module.norm_name, nn.Identity())


FOLDERS[ConvModule] = Folder(_applies, _fold)
