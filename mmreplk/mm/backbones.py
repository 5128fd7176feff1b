"""The networks as backbones of MMSegmentation and MMDetection: built from configs, under their names."""

import copy

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

from .. import networks
from ..errors import InputError
from ..layers.branches import Norm, build_bn


def norm_of(norm_cfg: dict | None) -> Norm:
    """Returns what makes the BatchNorm that ``norm_cfg``, MMCV's description, describes; None for a plain one.

    Raises:
        InputError: If it describes no BatchNorm with running statistics, and so could not be folded.
    """
    norm_cfg = norm_cfg or dict(type='BN')

    def norm(channels: int) -> nn.Module:
        return build_norm_layer(norm_cfg, channels)[1]

    try:
        build_bn(norm, 1)
    except InputError as error:
        raise InputError("norm_cfg must describe a BatchNorm with running statistics ('BN', 'SyncBN', ...), which the "
                         f'merging of kernels needs, got {norm_cfg}') from error
    return norm


class FromConfig:
    """What configs say of any network: mixed in before the network and ``BaseModule``, as below.

    Args:
        *args: What the network takes.
        norm_cfg: MMCV's description of the BatchNorm used throughout, such as ``dict(type='SyncBN')``.
        init_cfg: MMEngine's initialization, for example ``dict(type='Pretrained', checkpoint=...)``.
        **kwargs: What the network takes, but ``norm``.

    Raises:
        InputError: A ValueError that names the argument, what it must be, and what it was.
    """

    def __init__(self, *args, norm_cfg: dict | None = None, init_cfg: dict | list[dict] | None = None, **kwargs):
        super().__init__(*args, norm=norm_of(norm_cfg), **kwargs)
        self.init_cfg = copy.deepcopy(init_cfg)


@MODELS.register_module()
class RepLKNet(FromConfig, networks.RepLKNet, BaseModule):
    __doc__ = networks.RepLKNet.__doc__


@MODELS.register_module()
class UniRepLKNet(FromConfig, networks.UniRepLKNet, BaseModule):
    __doc__ = networks.UniRepLKNet.__doc__


@MODELS.register_module()
class SLaK(FromConfig, networks.SLaK, BaseModule):
    __doc__ = networks.SLaK.__doc__
