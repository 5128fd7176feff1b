"""Stops evaluations and resumed runs of models that their checkpoint fills only in part."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...errors import InputError
from ...networks import LargeKernelBackbone
from ..internals import checkpoint_of, is_resuming, is_training
from ..wrappers import unwrapped


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Stops a test, a validation or a resumed run whose checkpoint leaves a tensor of the model as initialized.

    MMEngine logs such tensors and goes on with random ones. Fine-tuning by ``load_from`` may leave heads out and is
    not affected; the backbone always checks its own weights.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compares names and shapes; InputError if a tensor of the model is missing or has another shape."""
        is_fine_tuning = is_training(runner) and not is_resuming(runner)
        if is_fine_tuning:
            return
        model = unwrapped(runner.model)
        source = checkpoint_of(runner) or f'in {runner.work_dir}'
        weights = checkpoint.get('state_dict', checkpoint)
        given = {name.removeprefix('module.'): getattr(tensor, 'shape', ()) for name, tensor in weights.items()}
        resized = tuple(f'{name}.' for name, module in model.named_modules()
                        if isinstance(module, LargeKernelBackbone) and module.resize_kernels)
        for name, tensor in model.state_dict().items():
            if name.endswith('num_batches_tracked'):
                continue
            if name not in given:
                raise InputError(f'checkpoint {source} is of another model: it lacks {name!r}')
            if given[name] != tensor.shape and not name.startswith(resized):
                raise InputError(f'checkpoint {source} is of another model: its {name!r} has shape '
                                 f'{tuple(given[name])}, this model needs {tuple(tensor.shape)}')
