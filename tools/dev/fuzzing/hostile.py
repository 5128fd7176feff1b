"""Checkpoints that PyTorch itself would not write: with code instead of data, or with false claims."""

import copy
import functools
import io
import os
import pickle
import zipfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


def read_members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


class Called:
    """Is pickled as a call of a function, which reading the pickle then makes."""

    def __init__(self, function: Callable, *arguments: object, state: object = None):
        self.call = function, arguments, state

    def __call__(self) -> None:
        """Is never called: pickle needs an object that it writes as a function to be callable."""

    def __reduce__(self) -> tuple:
        return self.call if self.call[2] is not None else self.call[:2]


def hostile(marker: Path) -> list[object]:
    """Returns objects that make a folder, ``marker``, when they are unpickled, or try to."""
    code, name = f'__import__("os").mkdir({str(marker)!r})', str(marker)
    inner = io.BytesIO()
    torch.save(Called(os.mkdir, name), inner)
    attribute = Called(getattr, Called(getattr, os.mkdir, '__self__'), 'mkdir')
    return [
        Called(os.mkdir, name), Called(os.system, f'mkdir {name}'), Called(exec, code), Called(eval, code),
        Called(getattr, HistoryBuffer, '__init__'), attribute,
        Called(Called(getattr, HistoryBuffer, 'mean'), Called(eval, code)),
        Called(torch.storage._load_from_bytes, inner.getvalue()),
        Called(pickle.loads, pickle.dumps(Called(eval, code))), Called(Namespace, state={'a': Called(eval, code)}),
        Called(copy.copy, Called(os.mkdir, name)), Called(functools.partial(os.mkdir, name)),
    ]


def hide(marker: Path, place: str | None) -> Callable[[Path, Random], None]:
    """Returns a function that puts something hostile into a checkpoint, or replaces it."""

    def damage(path: Path, rng: Random) -> None:
        thing = rng.choice(hostile(marker))
        if place is None:
            path.write_bytes(pickle.dumps(thing, protocol=rng.choice([2, 4])))
            return
        saved = torch.load(path, weights_only=False)
        target = saved if place == '' else saved[place]
        key = rng.choice(['mark', next(iter(target))])
        target[key] = thing
        torch.save(saved, path)

    return damage


def hostile_text(marker: Path, is_program: bool) -> Callable[[dict, Random], None]:
    """Returns a function that replaces every text by one, also where MMEngine has looked for configs.

    If it is a program, it makes a folder, ``marker``; otherwise it cannot be parsed as one.
    """
    text = f'__import__("os").mkdir({str(marker)!r})' if is_program else f'{str(marker)!r} is no program ('

    def put(node: dict) -> None:
        for key, value in node.items():
            if isinstance(value, dict):
                put(value)
            elif isinstance(value, str):
                node[key] = text

    def damage(saved: dict, rng: Random) -> None:
        saved['meta'].update(dict.fromkeys(('config', 'cfg', 'filename'), ''))
        put(saved)

    return damage


class Storage:
    """Is pickled as PyTorch's reference to a tensor's numbers."""

    def __init__(self, key: str, count: int):
        self.reference = 'storage', torch.FloatStorage, key, 'cpu', count


class ArchivePickler(pickle.Pickler):

    def persistent_id(self, thing: object) -> tuple | None:
        return thing.reference if isinstance(thing, Storage) else None


def forged_tensor(path: Path, rng: Random) -> None:
    """Replaces the contents by a tensor that claims numbers that the file does not have."""
    key, count, offset, size, stride = rng.choice([
        ('0', 10**12, 0, (10**6, 10**6), (10**6, 1)),  # more than the record holds
        ('0', 4, 0, (10**6, 10**6), (0, 0)),
        ('0', 4, 10**6, (2, 2), (2, 1)),
        ('0', 4, 0, (2, 2), (10**9, 10**9)),
        ('0', 4, 0, (-1, 2), (2, 1)),
        ('0', 4, -1, (2, 2), (2, 1)),
        ('0', 4, 0, (2**62, 2**62), (1, 1)),
        ('0', -4, 0, (2, 2), (2, 1)),
        ('1', 4, 0, (2, 2), (2, 1)),  # no such record
        ('../0', 4, 0, (2, 2), (2, 1)),
    ])
    tensor = Called(torch._utils._rebuild_tensor_v2, Storage(key, count), offset, size, stride, False, {})
    content = io.BytesIO()
    ArchivePickler(content, protocol=2).dump(dict(state_dict={'backbone.stem.0.conv.weight': tensor}, meta={}))
    write_members(path, {'a/data.pkl': content.getvalue(), 'a/data/0': bytes(16), 'a/version': b'3\n'})


def forged_array(path: Path, rng: Random) -> None:
    """Hides a NumPy array whose parts contradict each other in the log history."""
    rebuild, dtype = np.empty(0).__reduce__()[0], np.dtype('float64')
    state = rng.choice([
        (1, (10**12, ), dtype, False, bytes(16)), (1, (-1, ), dtype, False, bytes(8)),
        (1, (2, ), np.dtype('O'), False, bytes(16)), (1, (2, ), dtype, False, [1, 2]),
        (1, (2**62, 4), dtype, False, b''), (1, 'wrong', dtype, False, bytes(16)),
        (1, (2, ), 'wrong', False, bytes(16)),
    ])
    saved = torch.load(path, weights_only=False)
    saved['message_hub']['log_scalars']['forged'] = Called(rebuild, np.ndarray, (0, ), b'b', state=state)
    torch.save(saved, path)


def nested(path: Path, rng: Random) -> None:
    """Replaces the contents by lists in lists, a hundred thousand deep."""
    depth = 10**5
    pickled = b'\x80\x02}X\x04\x00\x00\x00meta' + b']' * depth + b'a' * (depth - 1) + b's.'
    members = read_members(path)
    name = next(name for name in members if name.endswith('data.pkl'))
    write_members(path, {**members, name: pickled})
