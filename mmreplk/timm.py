"""The networks in timm: importing this module registers them there. Needs timm, which nothing else here does.

``timm.create_model('unireplknet_t', features_only=True)`` returns the features of all stages as a backbone does, with
their norms; without ``features_only`` it gives the official classifier. Libraries that build on timm
(segmentation-models-pytorch, ``TIMMBackbone`` of MMSegmentation and MMDetection) have the networks too.

Weights come from the table of published ones: ``pretrained=True`` loads the first for a model, a name such as
``'unireplknet_s.in22k'`` another; ``timm.list_models('*replknet*', pretrained=True)`` lists them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from timm.models import (
    FeatureInfo,
    build_model_with_cfg,
    generate_default_cfgs,
    load_pretrained,
    register_model,
)
from torch import Tensor, nn

from . import networks
from .errors import InputError
from .networks import LargeKernelBackbone
from .networks.classifier import Classifier, inner_names
from .networks.sources import find_backbone, unwrap
from .weights import PUBLISHED, Published, local_file, read_checkpoint

__all__ = []  # register_model() adds the models
_OTHER_SOURCES = 'file', 'state_dict', 'hf_hub_id'  # timm's ways to name weights of one's own


class _Folds:
    """Folds too when timm merges: ``timm.utils.reparameterize_model`` calls ``reparameterize()`` without arguments."""

    def reparameterize(self, fuse_bn: bool = True) -> None:
        super().reparameterize(fuse_bn)


class RepLKNet(_Folds, networks.RepLKNet):
    __doc__ = networks.RepLKNet.__doc__


class UniRepLKNet(_Folds, networks.UniRepLKNet):
    __doc__ = networks.UniRepLKNet.__doc__


class SLaK(_Folds, networks.SLaK):
    __doc__ = networks.SLaK.__doc__


class Features(nn.Module):
    """A network with the interface of a timm model that was created with ``features_only=True``.

    Args:
        model: The network.

    Attributes:
        feature_info: Channels and strides of the stages, and which of them are returned.
    """

    def __init__(self, model: LargeKernelBackbone):
        super().__init__()
        self.model = model
        self.feature_info = FeatureInfo(_stages(model), model.out_indices)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes activations in the backward pass of training, or stores them."""
        self.model.with_cp = enable

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps images ``(N, in_chans, H, W)`` to the features of the stages in ``out_indices``."""
        return list(self.model(x))


class ImageClassifier(Classifier):
    """A classifier with the interface of a timm model."""

    def __init__(self, backbone: LargeKernelBackbone, num_classes: int, drop_rate: float):
        super().__init__(backbone, num_classes, drop_rate)
        self.head_hidden_size = self.num_features
        self.feature_info = _stages(backbone)

    def get_classifier(self) -> nn.Module:
        """Returns the last linear layer."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str = 'avg') -> None:
        _check_pooling(global_pool)
        super().reset_classifier(num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recomputes activations in the backward pass of training, or stores them."""
        self.backbone.with_cp = enable

    def no_weight_decay(self) -> set[str]:
        """Returns the parameters without weight decay, apart from the one-dimensional ones."""
        return set()

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Returns a function from a parameter's name to its layer's number, for layer-wise learning rate decay."""
        heads, depths = self.backbone.num_layers + 1, self.backbone.layer_depths()
        return lambda name: depths[name.removeprefix('backbone.')] if name.startswith('backbone.') else heads


def _stages(backbone: LargeKernelBackbone) -> list[dict]:
    return [dict(num_chs=channels, reduction=4 * 2**i, module=f'stages.{i}')
            for i, channels in enumerate(backbone.arch.channels)]


def _check_pooling(global_pool: str) -> None:
    if global_pool != 'avg':
        raise InputError(f"global_pool must be 'avg', the only one that the networks were published with, got "
                         f'{global_pool!r}')


def _build(network: type[LargeKernelBackbone], arch: str, features_only: bool, out_indices: Sequence[int] | int | None,
           in_chans: int = 3, num_classes: int = 1000, drop_rate: float = 0., drop_path_rate: float = 0.,
           global_pool: str = 'avg', output_stride: int = 32, **kwargs) -> Features | ImageClassifier:
    _check_pooling(global_pool)
    if output_stride != 32:
        raise InputError(f'output_stride must be 32, the only one that the networks have, got {output_stride!r}')
    stages = len(network.Arch.parse(arch).layers)
    kwargs |= dict(in_channels=in_chans, drop_path_rate=drop_path_rate)
    if features_only:
        return Features(network(arch, out_indices=_absolute(out_indices, stages), **kwargs))
    return ImageClassifier(network(arch, out_indices=[stages - 1], **kwargs), num_classes, drop_rate)


def _absolute(out_indices: Sequence[int] | int | None, stages: int) -> list[int]:
    """Returns the stages that timm's ``out_indices`` mean: an int is a number of last stages, -1 is the last stage."""
    if out_indices is None or isinstance(out_indices, int):
        out_indices = range(stages - (stages if out_indices is None else out_indices), stages)
    return sorted(index + stages if index < 0 else index for index in out_indices)


def _create(variant: str, network: type[LargeKernelBackbone], arch: str, pretrained: bool = False,
            pretrained_cfg: Any = None, pretrained_cfg_overlay: dict | None = None, cache_dir: str | None = None,
            features_only: bool = False, out_indices: Sequence[int] | int | None = None,
            **kwargs) -> Features | ImageClassifier:
    inside = 'model.' if features_only else 'backbone.'
    stem = 'stem.0.conv' if network.__name__ == 'RepLKNet' else 'downsample_layers.0.0'
    overlay = dict(pretrained_cfg_overlay or {}, first_conv=inside + stem)
    model = build_model_with_cfg(
        partial(_build, network, arch, features_only, out_indices), variant, False, pretrained_cfg, overlay, **kwargs)
    if pretrained:
        cfg = dict(model.pretrained_cfg)
        published = _PUBLISHED.get(cfg.get('url'))
        if published is not None and not any(cfg.get(source) for source in _OTHER_SOURCES):
            cfg['state_dict'], _ = unwrap(read_checkpoint(local_file(published.name, cache_dir)))
        load_pretrained(model, cfg, getattr(model, 'num_classes', 0), kwargs.get('in_chans', 3), _inner_names)
    return model


def _inner_names(saved: dict, model: Features | ImageClassifier) -> dict[str, Tensor]:
    """Gives the tensors of a checkpoint the names that they have in ``model``."""
    if isinstance(model, Features):
        return {f'model.{name}': tensor for name, tensor in find_backbone(saved, type(model.model)).backbone.items()}
    found = inner_names(saved, type(model.backbone))
    has_head = model.num_classes > 0
    return {name: tensor for name, tensor in found.items() if has_head or not name.startswith('head.')}


def _describe(published: Published) -> dict:
    """Returns timm's description of published weights."""
    side = published.resolution or 224
    channels = [0.5] * 3 if published.arch == 'XL' and published.network == 'RepLKNet' else None
    return dict(
        url=published.url, input_size=(3, side, side), num_classes=published.classes or 0, classifier='head',
        interpolation='bicubic', license=published.licence, origin_url=published.source,
        **(dict(mean=channels, std=channels) if channels else {}),
        # Images are warped to the larger sizes.
        **(dict(crop_pct=1., crop_mode='squash') if side >= 384 else {}))


def _variant(network: str, arch: str) -> str:
    return f'{network}_{arch}'.lower()


_PUBLISHED = {published.url: published for published in PUBLISHED.values() if published.kind == 'classifier'}
default_cfgs = generate_default_cfgs({
    f'{_variant(published.network, published.arch)}.{published.name.partition("_")[2].replace("-", "_")}':
        _describe(published)
    for published in _PUBLISHED.values()
})


def _register(network: type[LargeKernelBackbone], arch: str) -> None:
    variant = _variant(network.__name__, arch)

    def create(pretrained: bool = False, **kwargs) -> Features | ImageClassifier:
        return _create(variant, network, arch, pretrained, **kwargs)

    create.__name__ = create.__qualname__ = variant
    create.__doc__ = f'{network.__name__} {arch}.'
    globals()[variant] = register_model(create)


for _network in (RepLKNet, UniRepLKNet, SLaK):
    for _arch in _network.Arch.NAMED:
        _register(_network, _arch)
