import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset

from mmreplk.mm.data import seeded as module
from mmreplk.mm.data.loaders import with_data
from mmreplk.mm.data.seeded import Draw, NumberedBatches, SeededDataset, seed_generators, seeded


class Noise(Dataset):
    """Draws from all generators that transforms use."""
    pipeline = 'first'

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(()).item()


def make_loader(batch_size=2, workers=0, sampler=InfiniteSampler, **options):
    return DataLoader(Noise(), batch_size, sampler=sampler(Noise(), seed=5), num_workers=workers,
                      collate_fn=lambda batch: batch, **options)


def take(loader, count):
    batches = iter(loader)
    return [sample for _ in range(count) for sample in next(batches)]


def test_samples_do_not_depend_on_workers_or_on_where_one_begins():
    expected = take(seeded(make_loader(), 7, endless=True), 9)
    assert len({noise for sample in expected for noise in sample[1:]}) == 3 * 18, 'every number is new'
    for workers in (0, 1, 2):
        assert take(seeded(make_loader(workers=workers), 7, endless=True), 9) == expected
        assert take(seeded(make_loader(workers=workers), 7, start=4, endless=True), 5) == expected[8:]
    assert take(seeded(make_loader(), 8, endless=True), 9) != expected


def test_processes_share_out_what_one_would_draw(monkeypatch):
    expected = take(seeded(make_loader(4), 7, endless=True), 3)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, 2))
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        shares.append(take(seeded(make_loader(2), 7, endless=True), 3))
    assert [sample for pair in zip(*shares, strict=True) for sample in pair] == expected


def test_a_finite_sampler_goes_on_with_another_epoch():
    batches = list(seeded(make_loader(4, sampler=DefaultSampler), 7))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    loader = seeded(make_loader(4, sampler=DefaultSampler), 7, endless=True)
    endless = take(loader, 6)
    assert endless[:10] == [sample for batch in batches for sample in batch]
    assert sorted(s[0] for s in endless[10:]) == list(range(10)) and [s[0] for s in endless[10:]] != list(range(10))
    assert take(seeded(make_loader(4, sampler=DefaultSampler), 7, start=4, endless=True), 2) == endless[14:]


def test_epochs_differ_with_persistent_workers():
    loader = seeded(make_loader(5, workers=2, sampler=DefaultSampler, persistent_workers=True), 7)
    epochs = []
    for epoch in range(2):
        loader.batch_sampler.epoch = epoch
        epochs.append([sample for batch in loader for sample in batch])
    assert [s[0] for s in epochs[0]] == [s[0] for s in epochs[1]], "the order is the sampler's own"
    assert all(one[1:] != other[1:] for one, other in zip(*epochs, strict=True))
    fresh = seeded(make_loader(5, workers=0, sampler=DefaultSampler), 7)
    fresh.batch_sampler.epoch = 1
    assert [sample for batch in fresh for sample in batch] == epochs[1]


def test_it_is_the_dataset_in_all_else():
    dataset = SeededDataset(Noise(), 0)
    dataset.pipeline = 'second'
    assert dataset.pipeline == 'second' and dataset._dataset.pipeline == 'second' and len(dataset) == 10
    assert dataset[Draw(0, 3, 4)] == dataset[Draw(0, 3, 4)] != dataset[Draw(1, 3, 4)]
    with pytest.raises(AttributeError, match='missing'):
        _ = dataset.missing


def test_batches_without_a_batch_size():
    batches = NumberedBatches(BatchSampler(range(3), 2, drop_last=False))
    assert list(batches) == [[Draw(0, 0, 0), Draw(0, 1, 1)], [Draw(0, 2, 2)]] and len(batches) == 2


def test_seeds_are_mixed_from_the_whole_key():
    drawn = []
    for key in ((0, 0), (0, 1), (1, 0), (1, 1)):
        seed_generators(*key)
        drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))
    assert len({value for triple in drawn for value in triple}) == 12
    seed_generators(0, 1)
    assert drawn[1] == (random.random(), np.random.rand(), torch.rand(()).item())


class ByParity(BatchSampler):
    """Batches of odd or of even samples, as MMDetection makes them of upright and of wide pictures."""

    def __init__(self, sampler, batch_size, drop_last=False):
        super().__init__(sampler, batch_size, drop_last)
        self._waiting = [], []

    def __iter__(self):
        for index in self.sampler:
            waiting = self._waiting[index % 2]
            waiting.append(index)
            if len(waiting) == self.batch_size:
                yield waiting[:]
                del waiting[:]


@pytest.mark.parametrize('batch_size', [2, 3])
def test_what_was_drawn_before_leaves_nothing_behind(batch_size):
    """OpenMMLab's loop by iterations has drawn from the batches before training begins."""

    def loader():
        batches = ByParity(InfiniteSampler(Noise(), seed=5), batch_size)
        return DataLoader(Noise(), batch_sampler=batches, collate_fn=list)

    expected = take(seeded(loader(), 7, endless=True), 6)
    for drawn in (1, 2, 3):
        begun = loader()
        batches = iter(begun.batch_sampler)
        for _ in range(drawn):
            next(batches)
        again = seeded(begun, 7, endless=True)
        assert take(again, 6) == expected
        assert take(seeded(again, 7, endless=True), 6) == expected


def test_a_loader_of_other_data_is_as_it_was():
    own = make_loader(3, workers=1, sampler=DefaultSampler, drop_last=True, persistent_workers=True, prefetch_factor=3)
    other = with_data(own, SeededDataset(Noise(), 0))
    for name in ('num_workers', 'batch_size', 'drop_last', 'persistent_workers', 'prefetch_factor', 'collate_fn'):
        assert getattr(other, name) == getattr(own, name), name
    single = with_data(DataLoader(Noise(), batch_size=None), Noise())
    assert single.batch_size is None and next(iter(single))[0] == 0
    of_batches = DataLoader(Noise(), batch_sampler=BatchSampler(range(10), 4, True), collate_fn=list)
    assert [len(batch) for batch in with_data(of_batches, Noise())] == [4, 4]
