"""No run on data that are not what they are taken for."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch.utils.data import DataLoader, IterableDataset

from ..datasets.checked import CheckedDataset


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Checks every sample in the process that loads it (:class:`mmreplk.datasets.checked.CheckedDataset`).

    Files that are missing or broken, image and label map of two sizes, labels out of range and boxes that are no
    numbers end a run with the names of the files, instead of a traceback without them, a device-side assertion, or
    silence. Where MMEngine has begun to iterate before training does (OpenMMLab's, by iterations), training data are
    checked only together with ``ExactResumeHook``, which begins again.
    """

    # Before ExactResumeHook, which numbers what the dataset is asked for.
    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        """Checks the data of training."""
        _check(runner.train_dataloader)

    def before_val(self, runner: Runner) -> None:
        """Checks the data of validation."""
        _check(runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Checks the data of testing."""
        _check(runner.test_dataloader)


def _check(loader: DataLoader) -> None:
    if not isinstance(loader.dataset, (CheckedDataset, IterableDataset)):
        # A loader refuses another dataset because of iterators that run; this one has not begun.
        vars(loader)['dataset'] = CheckedDataset(loader.dataset)
