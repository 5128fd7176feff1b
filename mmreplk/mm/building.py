"""Models built from configs without a runner: backbones to look into, or shapes without weights."""

import copy
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ..errors import InputError
from ..networks.sources import find_backbone, unwrap
from ..weights.files import read_checkpoint
from .backbones import network_of
from .config.load import FRAMEWORKS
from .kinds import is_pretrained, kind_of, listed_parts


class Backbone(NamedTuple):
    """A backbone in evaluation mode, whose weights need no gradients, and the preprocessor of its images."""
    module: nn.Module
    preprocessor: nn.Module


def build_backbone(cfg: Config, checkpoint: str | None = None, trusted: bool = False) -> Backbone:
    """Builds the backbone that ``cfg`` describes, without the heads.

    Args:
        cfg: Config of a segmentor or detector, or of its model alone, without a ``default_scope``.
        checkpoint: Checkpoint of the whole model, of the backbone or of a classifier; for a large-kernel network, from
            any known source. None for the random weights that training from scratch begins with: pre-trained ones are
            not fetched.
        trusted: Whether the checkpoint may hold any pickle.

    Raises:
        InputError: If the config lacks a backbone or a ``data_preprocessor``, or the weights do not fit.
    """
    model = cfg.get('model') or {}
    described = model.get('backbone')
    preprocessor = model.get('data_preprocessor') or cfg.get('data_preprocessor')
    if not described or not preprocessor:
        raise InputError('the config must describe a model with a backbone and a data_preprocessor, which normalizes '
                         f'images; its model has {sorted(model)}')
    init_default_scope(_scope(cfg))
    module = MODELS.build(dict(described, init_cfg=_without_pretrained(described.get('init_cfg'))))
    if checkpoint is not None:
        _load(module, checkpoint, trusted)
    elif hasattr(module, 'init_weights'):
        with _quiet():
            module.init_weights()
    module.eval()  # some backbones return None from it
    return Backbone(module.requires_grad_(False), MODELS.build(preprocessor))


def build_empty_model(cfg: Config) -> nn.Module:
    """Builds the model that ``cfg`` describes on the meta device: shapes without weights."""
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    # Swin, for one, computes with tensors while it is being built, which the meta device cannot do.
    with torch.device('cpu' if network_of(cfg.model.backbone) is None else 'meta'):
        return MODELS.build(copy.deepcopy(cfg.model)).to('meta')  # detectors change the config that they are built from


def adapt_backbone(cfg: Config, saved: Mapping) -> None:
    """Makes ``cfg`` describe its network in the form of the weights ``saved``: training, merged or folded."""
    backbone = cfg.model.get('backbone') or {}
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    network = network_of(backbone)
    if network is None:
        return
    form = network.form_of(find_backbone(saved, network).backbone)
    if form != 'unknown':
        backbone.update(deploy=form != 'training', fuse_bn=form == 'folded')


def _scope(cfg: Config) -> str:
    """Returns the config's default scope or, if the file holds a model alone, the framework that has such a model."""
    if cfg.get('default_scope'):
        return cfg.default_scope
    for scope in filter(importlib.util.find_spec, FRAMEWORKS):
        with MODELS.switch_scope_and_registry(scope) as registry:
            if registry.get(kind_of(cfg.model)) is not None:
                return scope
    return 'mmengine'


def _without_pretrained(init_cfg: dict | list[dict] | None) -> dict | list[dict] | None:
    return [init for init in listed_parts(init_cfg) if not is_pretrained(init)] or None


def _load(module: nn.Module, path: str, trusted: bool) -> None:
    weights, _ = unwrap(read_checkpoint(path, trusted))
    own = _below('backbone.', weights) or weights
    try:
        missing, unexpected = module.load_state_dict(own, strict=False)
    except (InputError, RuntimeError) as error:
        raise InputError(f'checkpoint {path!r}: {" ".join(str(error).split())}') from error
    # A classifier's tensors outside of the backbone are left out.
    parts = {name for name, _ in module.named_children()}
    unexpected = [name for name in unexpected if name.split('.')[0] in parts]
    if missing or unexpected:
        raise InputError(f'checkpoint {path!r} does not fit {type(module).__name__}: it lacks {len(missing)} of its '
                         f'tensors ({", ".join(missing[:2])}) and has {len(unexpected)} that are not in it '
                         f'({", ".join(unexpected[:2])})')


def _below(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps MMEngine from logging how it filled each parameter."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel('WARNING')
    try:
        yield
    finally:
        logger.setLevel(before)
