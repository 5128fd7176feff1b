"""Data loaders built anew, since an existing loader accepts no other dataset."""

import inspect

from mmengine.dataset import InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset

# Options of a loader besides what it loads and how it draws batches.
_OPTIONS = ('num_workers', 'collate_fn', 'pin_memory', 'timeout', 'worker_init_fn', 'multiprocessing_context',
            'generator', 'prefetch_factor', 'persistent_workers', 'in_order')


def with_data(loader: DataLoader, dataset: Dataset, batch_sampler: BatchSampler | None = None) -> DataLoader:
    """Returns a new loader with the options of ``loader`` and another dataset.

    Args:
        loader: The old loader, which must not be used afterwards.
        dataset: What to load from.
        batch_sampler: Draws the batches; None for the samplers of ``loader``.
    """
    options = {name: getattr(loader, name) for name in _OPTIONS if hasattr(loader, name)}
    if batch_sampler is not None:
        options.update(batch_sampler=batch_sampler)
    elif loader.batch_sampler is not None and loader.batch_size is None:
        options.update(batch_sampler=loader.batch_sampler)
    else:
        options.update(batch_size=loader.batch_size, sampler=loader.sampler)
        if loader.batch_size is not None:
            options.update(drop_last=loader.drop_last)
    return DataLoader(dataset, **options)


def at_their_beginning(batches: BatchSampler) -> BatchSampler:
    """Returns batches from their beginning: those of an ``InfiniteSampler`` would go on where they were.

    OpenMMLab's loop by iterations draws from them before training begins, and MMDetection's batches by aspect ratio
    keep what they have not handed out.
    """
    if not isinstance(batches.sampler, InfiniteSampler):
        return batches
    return _anew(batches, sampler=_anew(batches.sampler))


def _anew(thing: object, **changed: object) -> object:
    """Builds ``thing`` again from its attributes that have the names of its arguments."""
    arguments = inspect.signature(type(thing)).parameters
    return type(thing)(**({name: getattr(thing, name) for name in arguments if hasattr(thing, name)} | changed))
