"""Fine-tuning of sparse networks."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ...errors import InputError
from ...networks import LargeKernelBackbone
from ...sparsity import apply_masks, sparsifiable
from ..wrappers import unwrapped


@HOOKS.register_module()
class KeepSparsityHook(Hook):
    """Keeps the zeros of a sparse backbone, as SLaK's published weights have them, while it is fine-tuned.

    What is zero when training begins, in the filters of convolutions and linear layers of the model's large-kernel
    networks, is zero after every step. Averaged weights (``EMAHook``), checkpoints and resumed runs have the same
    zeros. Merging adds filters up and so leaves fewer zeros.

    Raises:
        InputError: When training begins, if the model has no large-kernel network, or hardly any of its weights are
            zero: the checkpoint is not sparse, or was not loaded.

    Source: "More ConvNets in the 2020s: Scaling up Kernels Beyond 51x51 using Sparsity", arXiv 2207.03620, Section 3.3;
    ``segmentation/slak.py`` of https://github.com/VITA-Group/SLaK.
    """

    # After the step of the optimizer and before EMAHook (NORMAL) averages what it left.
    priority = 'HIGH'
    LEAST = 0.01  # of all weights: below it, zeros are chance

    def __init__(self) -> None:
        self._weights: dict[str, nn.Parameter] = {}
        self._masks: dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        """Reads the masks from the weights, which are all loaded by now."""
        model = unwrapped(runner.model)
        backbones = {name: module for name, module in model.named_modules() if isinstance(module, LargeKernelBackbone)}
        if not backbones:
            raise InputError(f'KeepSparsityHook needs a model with a large-kernel network, got {type(model).__name__}')
        self._weights = {f'{prefix}.{name}': weight for prefix, backbone in backbones.items()
                         for name, weight in sparsifiable(backbone).items()}
        self._masks = {name: weight.detach() != 0 for name, weight in self._weights.items()}
        total = sum(mask.numel() for mask in self._masks.values())
        zeros = total - sum(int(mask.sum()) for mask in self._masks.values())
        if zeros < self.LEAST * total:
            raise InputError(f'KeepSparsityHook found {zeros} zeros among {total} weights, less than {self.LEAST:.0%}: '
                             'load a sparse checkpoint, or leave the hook out')
        runner.logger.info(f'KeepSparsityHook: {zeros / total:.1%} of {total / 1e6:.1f} million weights are zero and '
                           'stay so.')

    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        """Puts the zeros back."""
        apply_masks(self._weights, self._masks)
