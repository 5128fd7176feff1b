"""Memory in the log of a run without a GPU, where MMEngine logs none."""

import sys

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

MEGABYTE = 2**20 if sys.platform == 'darwin' else 2**10  # in the unit in which the system counts


@HOOKS.register_module()
class PeakMemoryHook(Hook):
    """Logs ``peak_rss``, the largest resident memory that the process has had so far, in megabytes.

    Logs nothing if there is a GPU, whose memory MMEngine logs, or on Windows, where Python cannot ask for it.
    """

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        """Adds the figure to what ``LoggerHook`` logs of this iteration."""
        if torch.cuda.is_available() or sys.platform == 'win32':
            return
        import resource  # missing on Windows
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEGABYTE
        runner.message_hub.update_scalar('train/peak_rss', peak)
