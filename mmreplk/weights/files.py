"""Reads checkpoints, by default without executing anything in them, and writes them whole or not at all."""

import collections
import errno
import functools
import io
import os
import pickle
import re
import stat
import zipfile
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..io import write_whole
from .download import local_file

_WEIGHTS = '.weight', '.bias', '.running_mean', '.running_var'
MOST_UNPACKED = 10  # times the size of the file; PyTorch does not compress
_NUMPY = [np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]]  # with these, pickle rebuilds arrays and scalars
# Types that need no trust in the sender. The official classification code keeps its command line, a Namespace:
# unpickling one sets attributes of a plain object and calls nothing.
_SAFE_TYPES = [
    Namespace, np.ndarray, np.dtype, *_NUMPY,
    *(type(np.dtype(name)) for name in ('float16', 'float32', 'float64', 'int32', 'int64', 'bool')),
    # The same under the names that NumPy 1 and 2 write, whichever of them reads.
    *((function, f'numpy.{core}.multiarray.{function.__name__}') for function in _NUMPY for core in ('core', '_core')),
]


def allow_types(types: Iterable[object] = ()) -> None:
    """Allows these classes and functions too in all checkpoints that this process reads from now on.

    PyTorch keeps one list for all libraries, and those that allow a type for one checkpoint, as timm and the onedl
    fork of MMEngine do, remove it afterwards, also for those who had allowed it before. So this is called again
    before each checkpoint.
    """
    _SAFE_TYPES.extend(types)
    torch.serialization.add_safe_globals(_SAFE_TYPES)


def read_checkpoint(path: str | Path, trusted: bool = False, mmap: bool = False) -> dict:
    """Reads a checkpoint onto the CPU, by default without executing anything that it may contain.

    Args:
        path: The file, or the name of published weights; see :func:`mmreplk.weights.local_file`.
        trusted: Read any pickle, which lets the file execute what its sender wrote into it.
        mmap: Map tensors from the disk instead of reading them at once, which saves memory.

    Raises:
        InputError: If the file is missing, empty, cut short, a web page, or does not match its checksums; if it is not
            trusted and holds other types than tensors, plain values, ``argparse.Namespace`` and those of
            :func:`allow_types`; or if weights in it are not tensors or not finite. The message says which.
    """
    path = local_file(path)
    allow_types()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would never end
            raise InputError(f'checkpoint {str(path)!r} is not a file')
        with open(path, 'rb') as file:
            begin = file.read(64)
    except OSError as error:
        reason = 'does not exist' if isinstance(error, FileNotFoundError) else f'cannot be read: {error.strerror}'
        raise InputError(f'checkpoint {str(path)!r} {reason}') from error
    try:
        damage = find_damage(path) if begin.startswith(b'PK') else None
    except OSError as error:
        raise InputError(f'checkpoint {str(path)!r} cannot be read: {error.strerror}') from error
    if damage:
        raise InputError(f'checkpoint {str(path)!r} is damaged or cut short ({damage})')
    try:
        # Files from before PyTorch 1.6, which are not archives, and compressed ones cannot be mapped.
        mmap = mmap and begin.startswith(b'PK') and not _is_compressed(path)
        saved = torch.load(path, map_location='cpu', weights_only=not trusted, mmap=mmap)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise InputError(f'checkpoint {str(path)!r} {_why_unreadable(begin, error)}') from error
    if not isinstance(saved, dict):
        raise InputError(f'checkpoint {str(path)!r} must hold a dict of tensors, got {type(saved).__name__}')
    _check_numbers(saved, path)
    return saved


def _check_numbers(saved: dict, path: str | Path) -> None:
    """Refuses tensors that no sound training saves: weights that are not tensors or not finite, and NaN anywhere."""
    weights = saved.get('state_dict')
    for name, value in weights.items() if isinstance(weights, dict) else ():
        if not isinstance(value, torch.Tensor) and not str(name).endswith('_extra_state'):
            raise InputError(f'checkpoint {str(path)!r} cannot be used: its {name!r} must be a tensor, got '
                             f'{type(value).__name__}')
    for name, tensor in _tensors(saved):
        is_weight = name.endswith(_WEIGHTS)
        trouble = None
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            trouble = 'is not a plain tensor with numbers'
        elif is_weight and not tensor.is_floating_point():
            trouble = f'has the dtype {tensor.dtype}, weights must have floating-point numbers'
        elif tensor.is_floating_point() and not (tensor.isfinite() if is_weight else ~tensor.isnan()).all():
            trouble = 'has numbers that are not finite'
        if trouble:
            raise InputError(f'checkpoint {str(path)!r} cannot be used: its {name!r} {trouble}')


def _tensors(saved: dict) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the tensors in nested dicts and lists, however deep, by their dotted names."""
    waiting = [('', saved)]
    while waiting:
        name, node = waiting.pop()
        if isinstance(node, torch.Tensor):
            yield name, node
        elif isinstance(node, (dict, list, tuple)):
            pairs = node.items() if isinstance(node, dict) else enumerate(node)
            waiting += [(f'{name}.{key}' if name else str(key), value) for key, value in pairs]


def find_damage(path: str | Path) -> str | None:
    """Reads a checkpoint's archive to its end and returns what is wrong; None if each part matches its checksum.

    PyTorch writes checksums, but does not compare them. Nothing in the file is executed, and an archive that would
    unpack to far more than its size is refused. A file is read again only if it has changed.

    Raises:
        OSError: If it cannot be read, which may be temporary.
    """
    status = os.stat(path)
    return _find_damage(str(path), (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@functools.lru_cache(maxsize=64)
def _find_damage(path: str, identity: tuple[int, ...]) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > MOST_UNPACKED * os.path.getsize(path):
                return f'it would be unpacked to {unpacked} bytes'
            names = collections.Counter(member.filename for member in members)
            if len(names) < len(members):  # readers differ in which of the two they take
                return f'it holds {names.most_common(1)[0][0]} twice'
            has_checksums = any(member.CRC for member in members)  # set_crc32_options(False) writes zeros
            name = archive.testzip() if has_checksums else None
    except MemoryError:
        raise
    except Exception as error:  # what a damaged archive raises depends on the damage
        # These errors come from an offset before the file's beginning: the archive is damaged.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        return f'{type(error).__name__}: {error}'
    return f'{name} does not match its checksum' if name else None


def is_whole(path: str | Path) -> bool:
    """Says whether a checkpoint exists, is complete and matches its checksums; nothing in it is executed.

    Raises:
        OSError: If it cannot be read, which may be temporary.
    """
    try:
        is_file = stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise
        return False
    return is_file and find_damage(path) is None


def _is_compressed(path: str | Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())


def write_checkpoint(saved: dict, path: str | Path, force: bool = False) -> None:
    """Writes a checkpoint whole, or not at all.

    Args:
        saved: What to write.
        path: The file.
        force: Replace an existing file.

    Raises:
        InputError: If the file exists and ``force`` is not set.
    """
    if os.path.exists(path) and not force:
        raise InputError(f'{str(path)!r} exists; --force replaces it')
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    write_whole(buffer.getbuffer(), path)


def _why_unreadable(begin: bytes, error: Exception) -> str:
    unsafe = re.search(r'GLOBAL (\S+)', str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if not begin:
        return 'is empty'
    if begin.lstrip().startswith(b'<'):
        return 'is a web page, not weights: the download was an error or a login page'
    if begin.startswith(b'version https://git-lfs'):
        return 'is a pointer of Git LFS, not weights: run "git lfs pull" where it came from'
    if unsafe:
        return (f'holds {unsafe[1]}, which is not a plain value: reading it can execute what its sender wrote into it. '
                'If you trust the sender, say --trust-checkpoint')
    if not begin.startswith((b'PK', b'\x80')):
        return f'is not a checkpoint of PyTorch: it begins with {begin[:16]!r}'
    detail = re.search(r'WeightsUnpickler error:\s*(.+)', str(error)) or re.match(r'(.+)', str(error))
    return f'is damaged or cut short ({detail[1] if detail else type(error).__name__})'
