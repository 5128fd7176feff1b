"""Stops runs on data that are broken or do not fit the model."""

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import IterableDataset

from ..checks.label_maps import classes_seen, without_images
from ..checks.samples import CheckedDataset
from ..data.loaders import with_data
from ..internals import replace_data
from ..wrappers import unwrapped

_HEADS = ('decode_head', 'auxiliary_head', 'bbox_head')


@HOOKS.register_module()
class CheckDataHook(Hook):
    """Checks every sample in the process that loads it (:class:`mmreplk.mm.checks.samples.CheckedDataset`).

    Missing or broken files, label maps of another size than their image, labels out of range and boxes that are not
    finite end a run with the names of the files. Without this hook they end in a traceback that does not name them, in
    a device-side assertion, or go unnoticed.
    """

    # Before ExactResumeHook, which numbers what the dataset is asked for.
    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        """Checks the data of training, its labels also against the classes that the model tells apart."""
        _check(runner, runner.train_loop, _num_classes(runner.model))

    def before_val(self, runner: Runner) -> None:
        """Checks the data of validation."""
        _check(runner, runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        """Checks the data of testing."""
        _check(runner, runner.test_loop)


def _check(runner: Runner, loop: BaseLoop, num_classes: int | None = None) -> None:
    loader = loop.dataloader
    if isinstance(loader.dataset, (CheckedDataset, IterableDataset)):
        return
    if is_main_process():
        for sentence in (*without_images(loader.dataset), *classes_seen(loader.dataset)):
            runner.logger.warning(f'CheckDataHook: {sentence}')
    replace_data(loop, with_data(loader, CheckedDataset(loader.dataset, num_classes)))


def _num_classes(model: nn.Module) -> int | None:
    """Returns how many classes the heads of a segmentor or the box heads of a detector know; None if unknown."""
    model = unwrapped(model)
    heads = [head for part in (model, getattr(model, 'roi_head', None)) for name in _HEADS
             if (head := getattr(part, name, None)) is not None]
    heads = [one for head in heads for one in (head if isinstance(head, nn.ModuleList) else [head])]
    # With one output, a segmentor tells two classes apart.
    counts = [2 if getattr(head, 'out_channels', None) == 1 else head.num_classes for head in heads
              if isinstance(getattr(head, 'num_classes', None), int)]
    return min(counts, default=None)
