"""Learning rates that fall from layer to layer towards the image."""

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from ...errors import InputError
from ...networks import LargeKernelBackbone
from ..wrappers import unwrapped

_REQUIRED = {'layer_wise': {'decay_rate', 'decay_type'}, 'stage_wise': {'decay_rate', 'decay_type', 'num_layers'}}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module(name=['LargeKernelLayerDecayConstructor', 'RepLKNetLayerDecayConstructor'])
class LargeKernelLayerDecayConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise learning-rate decay for models with a large-kernel backbone, as in the official fine-tuning code.

    ``optim_wrapper=dict(constructor='LargeKernelLayerDecayConstructor', paramwise_cfg=dict(decay_rate=0.7), ...)``

    A parameter of layer ``i`` of a backbone with ``n`` layers learns at ``decay_rate ** (n + 1 - i)`` of the learning
    rate; the network's ``layer_of()`` numbers the layers. What is not in the backbone, and the norms of its outputs,
    which pre-training does not have, learn at the full rate. Norms and biases, in heads too, have no weight decay.

    Args:
        optim_wrapper_cfg: MMEngine's description of the optimizer wrapper; its optimizer needs an ``lr``.
        paramwise_cfg: ``dict(decay_rate=...)``, above 0; 1 is no decay. ``num_layers``, if it is given too, is ``n``,
            and the last layer has that number: official configs give small networks the ``n`` of large ones. With
            ``decay_type='stage_wise'`` a layer is a stage, and ``num_layers`` is ``n``: stem and down-sampling are
            layer 0, stage ``i`` from 0 on is layer ``i + 1``.

    Raises:
        InputError: If an argument is not as described here.

    Source: ``optim_factory.py`` of https://github.com/DingXiaoH/RepLKNet-pytorch, and ConvNeXt's
    ``layer_decay_optimizer_constructor.py`` for both types.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        given = dict(decay_type='layer_wise') | dict(self.paramwise_cfg)
        rate, kind, layers = given.get('decay_rate'), given['decay_type'], given.get('num_layers')
        if kind not in _REQUIRED:
            raise InputError(f"decay_type must be 'layer_wise' or 'stage_wise', got {kind!r}")
        keys = set(given)
        if not _REQUIRED[kind] <= keys <= _REQUIRED['stage_wise'] or not isinstance(rate, (int, float)) or rate <= 0:
            needed = 'dict(decay_rate=...) or dict(decay_rate=..., num_layers=...)' if kind == 'layer_wise' else \
                "dict(decay_type='stage_wise', decay_rate=..., num_layers=...)"
            raise InputError(f'paramwise_cfg must be {needed} with a number above 0, got {paramwise_cfg}')
        if 'num_layers' in given and (type(layers) is not int or layers < 1):
            raise InputError(f'num_layers must be a positive integer, got {layers!r}')
        if self.base_lr is None:
            raise InputError(f'the optimizer needs a learning rate lr to decay, got {dict(self.optimizer_cfg)}')
        self.decay_rate, self.kind, self.num_layers = rate, kind, layers

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the optimizer wrapper for ``model``, which may be wrapped itself."""
        return super().__call__(unwrapped(model))

    def add_params(self, params: list[dict], module: nn.Module, **_) -> None:
        """Appends the parameter groups of the model ``module`` to ``params``.

        Raises:
            InputError: If the model has no large-kernel network.
        """
        backbones = [child for child in module.modules() if isinstance(child, LargeKernelBackbone)]
        if not backbones:
            raise InputError('LargeKernelLayerDecayConstructor needs a model with a large-kernel network, got '
                             f'{type(module).__name__}')
        depths = {backbone.get_parameter(name): depth
                  for backbone in backbones for name, depth in self._depths(backbone).items()}
        groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                key = depths.get(parameter, 0), parameter.ndim > 1 and not name.endswith('.bias')
                groups.setdefault(key, []).append(parameter)
        for (depth, decays), parameters in sorted(groups.items(), reverse=True):
            group = dict(params=parameters, lr=self.base_lr * self.decay_rate**depth)
            params.append(group if decays else dict(group, weight_decay=0.))
        scales = ', '.join(f'{self.decay_rate**depth:.3g}' for depth in sorted({d for d, _ in groups}, reverse=True))
        print_log(f'LargeKernelLayerDecayConstructor: from the stem to the heads, {scales} of the learning rate '
                  f'{self.base_lr}.', logger='current')

    def _depths(self, backbone: LargeKernelBackbone) -> dict[str, int]:
        """Returns how often the learning rate of each parameter is multiplied by the decay rate."""
        if self.kind == 'stage_wise':
            return {name: 0 if place is None else self.num_layers + 1 - (0 if place[1] is None else place[0] + 1)
                    for name, place in backbone.places().items()}
        last = backbone.num_layers
        num_layers = self.num_layers or last
        if num_layers < last:
            raise InputError(f'num_layers must be at least {last}, the layers of this {type(backbone).__name__}, '
                             f'got {num_layers}')
        return {name: (last if layer >= last else num_layers) + 1 - layer
                for name, layer in backbone.layer_depths().items()}
