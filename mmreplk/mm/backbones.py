"""The networks as backbones of MMSegmentation and MMDetection: built from configs, under their names."""

import copy
import inspect

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

from .. import networks
from ..errors import InputError
from ..layers.branches import Norm, build_bn


def norm_of(norm_cfg: dict | None) -> Norm:
    """Returns the function that builds the BatchNorm described by ``norm_cfg``, in MMCV's format; None is a plain one.

    Raises:
        InputError: If it is not a BatchNorm with running statistics: nothing else can be folded.
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


def network_of(described: object) -> type[networks.LargeKernelBackbone] | None:
    """Returns the class of the large-kernel network that a node of a config describes, None if it is something else.

    The type may be the class itself, or its name in the registry of the current scope.
    """
    kind = described.get('type') if isinstance(described, dict) else None
    if isinstance(kind, str):
        with MODELS.switch_scope_and_registry(described.get('_scope_')) as registry:
            kind = registry.get(kind)
    return kind if isinstance(kind, type) and issubclass(kind, networks.LargeKernelBackbone) else None


def build_empty(described: dict) -> networks.LargeKernelBackbone:
    """Builds the large-kernel network of a node of a config on the meta device: shapes without weights.

    Raises:
        InputError: If an argument is unknown or wrong.
    """
    network = network_of(described)
    arguments = {name: value for name, value in described.items() if name not in ('type', '_scope_', 'init_cfg')}
    known = arguments_of(network)
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise InputError(f'{network.__name__} has no argument {", ".join(map(repr, unknown))}; it takes '
                         f'{", ".join(known)}')
    with torch.device('meta'):
        return network(**arguments)


def arguments_of(network: type[networks.LargeKernelBackbone]) -> list[str]:
    """Returns the names of the arguments that a config may give to a registered network, in order."""
    found: set[str] = {'init_cfg'}
    for kind in network.__mro__:
        if kind is BaseModule or kind is nn.Module:
            break
        for name, parameter in inspect.signature(kind.__init__).parameters.items():
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                found.add(name)
    return sorted(found - {'self', 'norm'})


class FromConfig:
    """The arguments that configs add to any network. Mixed in before the network and ``BaseModule``, as below.

    Args:
        *args: The network's positional arguments.
        norm_cfg: MMCV's description of the BatchNorm used throughout, such as ``dict(type='SyncBN')``.
        init_cfg: MMEngine's initialization, for example ``dict(type='Pretrained', checkpoint=...)``.
        **kwargs: The network's keyword arguments, except ``norm``.

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
