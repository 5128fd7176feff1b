"""Figures that are kept as they are measured, so that an interrupted measurement continues where it stopped."""

import json
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError
from ..io import write_json


class Kept:
    """Rows of figures in a JSON file, which is whole after every row.

    Args:
        path: The file; None keeps nothing. If it exists, its rows count as measured.
        head: What the rows have in common: where and with what they are measured.
        rows_name: The key of the rows in the file.

    Raises:
        InputError: If the file is not of this kind, or its rows were measured elsewhere or with something else.

    Attributes:
        rows: All of them, those of earlier runs first.
    """

    def __init__(self, path: str | Path | None, head: dict, rows_name: str = 'results'):
        self._path, self._name = path and Path(path), rows_name
        self._head = json.loads(json.dumps(head))  # as it will be read again
        self.rows: list[dict] = []
        if self._path and self._path.exists():
            self.rows = self._read()

    def _read(self) -> list[dict]:
        try:
            found = json.loads(self._path.read_bytes())
            rows = found.pop(self._name)
        except OSError as error:
            raise InputError(f'{str(self._path)!r} cannot be read: {error.strerror}') from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f'{str(self._path)!r} exists and holds no figures of this tool: name another '
                             'file') from error
        for key in {*found, *self._head}:
            if found.get(key) != self._head.get(key):
                raise InputError(f'{str(self._path)!r} has figures of another run, with {key}={found.get(key)!r} '
                                 f'instead of {self._head.get(key)!r}: name another file, or delete it')
        return rows

    def measured(self, **key: object) -> list[dict]:
        """Returns the rows that have these values."""
        key = json.loads(json.dumps(key))
        return [row for row in self.rows if all(row.get(name) == value for name, value in key.items())]

    def add(self, rows: Iterable[dict]) -> None:
        """Takes rows, and writes all of them."""
        self.rows += rows
        if self._path:
            write_json({**self._head, self._name: self.rows}, self._path, indent=1)
