"""Fine-tuning of sparse networks."""

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ...errors import InputError
from ...networks import LargeKernelBackbone


@HOOKS.register_module()
class KeepSparsityHook(Hook):
    """Keeps the zeros of a sparse backbone, as SLaK's published weights have them, while it is fine-tuned.

    What is zero when training begins, in the filters of convolutions and linear layers of the model's large-kernel
    networks, is zero after every step. Averaged weights (``EMAHook``), checkpoints and resumed runs have the same
    zeros. Merging adds filters up and so leaves fewer.

    Raises:
        InputError: When training begins, if the model has no large-kernel network, or hardly a weight of it is zero:
            the checkpoint is not sparse, or was not loaded.

    Source: "More ConvNets in the 2020s: Scaling up Kernels Beyond 51x51 using Sparsity", arXiv 2207.03620, Section 3.3;
    ``segmentation/slak.py`` of https://github.com/VITA-Group/SLaK.
    """

    # After the step of the optimizer and before EMAHook (NORMAL) averages what it left.
    priority = 'HIGH'
    LEAST = 0.01  # of all weights: below it, zeros are chance

    def __init__(self) -> None:
        self._masks: list[tuple[nn.Parameter, Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        """Takes the masks off the weights, which are all loaded by now."""
        model = runner.model
        while is_model_wrapper(model):
            model = model.module
        backbones = [module for module in model.modules() if isinstance(module, LargeKernelBackbone)]
        if not backbones:
            raise InputError(f'KeepSparsityHook needs a model with a large-kernel network, got {type(model).__name__}')
        weights = [parameter for backbone in backbones for parameter in backbone.parameters() if parameter.ndim > 1]
        self._masks = [(weight, weight.detach() != 0) for weight in weights]
        total = sum(weight.numel() for weight in weights)
        zeros = total - sum(int(mask.sum()) for _, mask in self._masks)
        if zeros < self.LEAST * total:
            raise InputError(f'KeepSparsityHook found {zeros} zeros among {total} weights, less than {self.LEAST:.0%}: '
                             'load a sparse checkpoint, or leave the hook out')
        runner.logger.info(f'KeepSparsityHook: {zeros / total:.1%} of {total / 1e6:.1f} million weights are zero and '
                           'stay so.')

    @torch.no_grad()
    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        """Puts the zeros back."""
        for weight, mask in self._masks:
            weight.mul_(mask)
