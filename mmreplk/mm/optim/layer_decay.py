"""Learning rates that fall from layer to layer towards the image."""

from collections.abc import Sequence

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from ...errors import InputError
from ...models import RepLKNet

_BLOCKS = 4  # of a layer: two RepLKBlocks and their two ConvFFNs


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RepLKNetLayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise learning-rate decay for models with a RepLKNet, as the official code fine-tunes its classifiers.

    ``optim_wrapper=dict(constructor='RepLKNetLayerDecayConstructor', paramwise_cfg=dict(decay_rate=0.7), ...)``

    A parameter of layer ``i`` of a backbone with ``n`` layers learns at ``decay_rate ** (n + 1 - i)`` of the learning
    rate; :func:`layer_of` numbers the layers. What is not in the backbone, and its norms of features, which
    pre-training does not have, learn at the full rate. Norms and biases, in heads too, have no weight decay.

    Args:
        optim_wrapper_cfg: MMEngine's description of the optimizer wrapper; its optimizer needs an ``lr``.
        paramwise_cfg: ``dict(decay_rate=...)``, above 0; 1 is no decay.

    Raises:
        InputError: If these are not what is described here.

    Source: https://github.com/DingXiaoH/RepLKNet-pytorch, ``optim_factory.py``.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        rate = self.paramwise_cfg.get('decay_rate')
        if set(self.paramwise_cfg) != {'decay_rate'} or not isinstance(rate, (int, float)) or rate <= 0:
            raise InputError(f'paramwise_cfg must be dict(decay_rate=...) with a number above 0, got {paramwise_cfg}')
        if self.base_lr is None:
            raise InputError(f'the optimizer needs a learning rate lr to decay, got {dict(self.optimizer_cfg)}')
        self.decay_rate = rate

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the optimizer wrapper for ``model``, which may be wrapped itself."""
        while is_model_wrapper(model):
            model = model.module
        return super().__call__(model)

    def add_params(self, params: list[dict], module: nn.Module, **_) -> None:
        """Appends the parameter groups of the model ``module`` to ``params``.

        Raises:
            InputError: If the model has no RepLKNet.
        """
        backbones = [child for child in module.modules() if isinstance(child, RepLKNet)]
        if not backbones:
            raise InputError('RepLKNetLayerDecayConstructor needs a model with a RepLKNet, got '
                             f'{type(module).__name__}')
        depths = {}  # layers between a parameter and the heads
        for backbone in backbones:
            layers = backbone.arch.layers
            for name, parameter in backbone.named_parameters():
                depths[parameter] = num_layers(layers) + 1 - layer_of(name, layers)
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                key = depths.get(parameter, 0), parameter.ndim > 1 and not name.endswith('.bias')
                groups.setdefault(key, []).append(parameter)
        for (depth, decays), parameters in sorted(groups.items(), reverse=True):
            group = dict(params=parameters, lr=self.base_lr * self.decay_rate**depth)
            params.append(group if decays else dict(group, weight_decay=0.))
        scales = ', '.join(f'{self.decay_rate**depth:.3g}' for depth in sorted({d for d, _ in groups}, reverse=True))
        print_log(f'RepLKNetLayerDecayConstructor: from the stem to the heads, {scales} of the learning rate '
                  f'{self.base_lr}.', logger='current')  # yapf: disable


def num_layers(layers: Sequence[int]) -> int:
    """Returns the number of the last layer of a backbone with ``layers`` pairs of blocks in its stages: 12 for 31B."""
    return sum(map(_layers_of_stage, layers))


def layer_of(name: str, layers: Sequence[int]) -> int:
    """Returns the layer to which a RepLKNet's parameter belongs.

    The stem is layer 0. Every four blocks of a stage are one layer, the last of a stage with fewer, counted from 1
    through all stages. A transition belongs to the layer before it. Norms of features come after the last layer.

    Args:
        name: The parameter's name in the backbone.
        layers: The ``layers`` of the architecture: in each stage, how many pairs of a RepLKBlock and a ConvFFN.
    """
    part, index, *rest = name.split('.')
    stage = int(index)
    if part == 'stem':
        return 0
    if part == 'transitions':
        return num_layers(layers[:stage + 1])
    if rest[0] == 'norm':
        return num_layers(layers) + 1
    return num_layers(layers[:stage]) + 1 + int(rest[1]) // _BLOCKS


def _layers_of_stage(pairs: int) -> int:
    return -(-2 * pairs // _BLOCKS)
