"""A dataset that wraps another."""

from torch.utils.data import Dataset


class DatasetProxy(Dataset):
    """Acts as ``dataset`` in all that a subclass does not define: hooks read and set the attributes of ``dataset``."""

    def __init__(self, dataset: Dataset, **own: object):
        vars(self).update(own, _dataset=dataset)

    @property
    def wrapped(self) -> Dataset:
        """The dataset inside."""
        return self._dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getattr__(self, name: str) -> object:
        if name.startswith('__') or '_dataset' not in vars(self):
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._dataset, name, value)
