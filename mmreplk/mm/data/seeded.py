"""Data whose every random choice follows from the run's seed and the number of the draw, not from what came before.

Transforms draw from the global generators of whichever process loads a sample, so with MMEngine alone a sample depends
on the number of workers and on everything that its worker has loaded since it was started. Here the sample drawn as
number ``n`` of the run is the same whoever loads it: after a restart, and with any number of workers or processes.
"""

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dist import get_dist_info
from torch.utils.data import BatchSampler, DataLoader, Dataset

from .loaders import at_their_beginning, with_data
from .proxy import DatasetProxy

# What keeps the seeds of the data, of the model's iterations and of masks apart.
DATA, MODEL, SPARSITY = 0, 1, 2


class Draw(NamedTuple):
    """One sample to load: the epoch, the number of the draw in it over all processes, the index in the dataset."""
    epoch: int
    number: int
    index: int


def seed_generators(*key: int) -> None:
    """Seeds Python's, NumPy's and PyTorch's global generators with a hash of ``key``."""
    words = np.random.SeedSequence(key).generate_state(12)
    random.seed(words[:4].tobytes())
    np.random.seed(words[4:8])
    torch.manual_seed(int(words[8:10].view(np.uint64)[0]))


class SeededDataset(DatasetProxy):
    """Wraps ``dataset`` and takes a :class:`Draw` as an index."""

    def __init__(self, dataset: Dataset, seed: int):
        super().__init__(dataset, _seed=seed)

    def __getitem__(self, draw: Draw) -> dict:
        seed_generators(self._seed, DATA, draw.epoch, draw.number)
        return self._dataset[draw.index]


class NumberedBatches:
    """A batch sampler that yields the batches of another as :class:`Draw` objects.

    Args:
        batches: Any batch sampler.
        start: How many batches of this process to skip.
        endless: Begin another epoch where ``batches`` ends, as an iteration-based loop needs.
    """

    def __init__(self, batches: BatchSampler, start: int = 0, endless: bool = False):
        self.batches, self.start, self.endless, self.epoch = batches, start, endless, 0

    @property
    def sampler(self) -> object:
        """The sampler below, where MMEngine's hooks look for it."""
        return self.batches.sampler

    @property
    def batch_size(self) -> int | None:
        return getattr(self.batches, 'batch_size', None)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        return itertools.islice(self._draws(), self.start, None)

    def _draws(self) -> Iterator[list[Draw]]:
        rank, processes = get_dist_info()
        for epoch in itertools.count() if self.endless else (self.epoch, ):
            if self.endless and hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            numbers = itertools.count(rank, processes)
            for batch in self.batches:
                yield [Draw(epoch, next(numbers), index) for index in batch]


def seeded(loader: DataLoader, seed: int, start: int = 0, endless: bool = False) -> DataLoader:
    """Returns ``loader`` with a :class:`SeededDataset` and :class:`NumberedBatches`, at its beginning.

    Args:
        loader: Loads from a map-style dataset by a batch sampler; it must not be used afterwards.
        seed: The run's, the same in all processes.
        start: How many batches of this process to skip, without loading them.
        endless: Whether the batches never end.
    """
    dataset, batches = loader.dataset, loader.batch_sampler
    if isinstance(batches, NumberedBatches):  # of an earlier call of train()
        dataset, batches = dataset.wrapped, batches.batches
    return with_data(loader, SeededDataset(dataset, seed),
                     NumberedBatches(at_their_beginning(batches), start, endless))
