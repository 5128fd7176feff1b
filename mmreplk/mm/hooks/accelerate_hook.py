"""Training and evaluation of any model with the fast depthwise convolution."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...acceleration import accelerate, restore


@HOOKS.register_module()
class AccelerateHook(Hook):
    """Runs the depthwise convolutions of the model on :func:`mmreplk.depthwise_conv2d`, wherever that is faster.

    For any model of any framework on MMEngine, in training, validation and test, under ``EMAHook``,
    DistributedDataParallel, AMP and ``ReparamHook``. Weights, optimizer and checkpoints are as without it, see
    :func:`mmreplk.accelerate`; at the end of the run the model is restored.
    """

    # After EMAHook (NORMAL) has made its copy, of which only the weights are used.
    priority = 'LOW'

    def before_run(self, runner: Runner) -> None:
        """Accelerates the model."""
        self._names = accelerate(runner.model)
        count = len(self._names)
        runner.logger.info(f'AccelerateHook: {count} depthwise convolutions run on mmreplk wherever that is faster.')

    def after_run(self, runner: Runner) -> None:
        """Restores what it accelerated."""
        if self._names:
            restore(runner.model)
