"""``load_from`` for weights of a backbone alone."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...networks import LargeKernelBackbone
from ...networks.sources import unwrap
from ..wrappers import unwrapped


@HOOKS.register_module()
class BackboneWeightsHook(Hook):
    """Lets ``load_from`` of a segmentor or detector name weights of its backbone alone, official ones for example.

    MMEngine hands a backbone only what is named ``backbone.*``; this hook gives the tensors such names. The backbone
    decides which of them it takes, and reports it.
    """

    # Before StrictLoadHook looks.
    priority = 'HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Renames the tensors in ``checkpoint`` if they are those of the model's large-kernel backbone alone."""
        model = unwrapped(runner.model)
        weights, _ = unwrap(checkpoint)
        backbone = getattr(model, 'backbone', None)
        if isinstance(backbone, LargeKernelBackbone) and not set(backbone.state_dict()).isdisjoint(weights):
            checkpoint['state_dict'] = {f'backbone.{name}': tensor for name, tensor in weights.items()}
