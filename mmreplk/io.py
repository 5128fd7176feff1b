"""Writes files whole or not at all, figures as JSON and tables; reads pictures, or says in one sentence why not."""

import errno
import io
import json
import os
import secrets
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .errors import InputError

try:
    import fcntl
except ImportError:
    fcntl = None

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_whole(data: bytes | memoryview, path: str | Path) -> None:
    """Writes ``data`` to ``path``, creating its folder: to a temporary file beside it, flushed to disk, then renamed.

    The temporary file is locked as long as its writer lives, see :func:`remove_abandoned`.

    Raises:
        OSError: If that fails; what was at ``path`` is unchanged then.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, file = _create_locked(path)
    try:
        with file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def check_file_place(path: str | Path) -> None:
    """Raises InputError if no file can be written at ``path``: it is a folder, or its folder cannot be written to."""
    if os.path.isdir(path):
        raise InputError(f'{str(path)!r} must be a file, it is a folder')
    check_folder_place(os.path.dirname(os.path.abspath(path)))


def check_folder_place(path: str | Path) -> None:
    """Raises InputError if ``path`` is a file, or a folder that can be neither made nor written to."""
    place = os.path.abspath(path)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        raise InputError(f'{str(path)!r} must be a folder, and {place!r} is a file')
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f'{str(path)!r} cannot be written to: {place!r} does not allow it')


def remove_abandoned(part: str | Path) -> bool:
    """Removes a temporary file, ``*.part``, unless its writer may still live; says whether it did."""
    try:
        with open(part, 'rb') as file:
            if not _lock(file.fileno()):
                return False
            os.unlink(part)
            return True
    except (FileNotFoundError, PermissionError):  # Windows removes no file that is open
        return False


def _create_locked(path: Path) -> tuple[Path, BinaryIO]:
    """Creates a temporary file beside ``path``; again, if one was cleared away before it was locked."""
    while True:
        temporary = path.with_name(f'{path.name}{secrets.token_hex(4)}.part')
        # With the permissions that any new file has, by the umask.
        file = os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), 'wb')
        if _lock(file.fileno()) and temporary.exists():
            return temporary, file
        file.close()
        temporary.unlink(missing_ok=True)


def _lock(descriptor: int) -> bool:
    """Locks an open file until it is closed; returns False if another process has locked it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)  # others: file systems without locks
    return True


def _flush_folder(folder: Path) -> None:
    """Makes a rename in ``folder`` survive a loss of power, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems cannot flush folders
    finally:
        os.close(descriptor)


def write_json(figures: Any, path: str | Path, indent: int | None = None) -> None:
    """Writes ``figures`` as JSON to ``path``, creating its folder."""
    write_whole((json.dumps(figures, indent=indent) + '\n').encode(), path)


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]] = ()) -> str:
    """Returns a table in Markdown, with a line feed at its end."""
    return ''.join(f'| {" | ".join(map(str, line))} |\n' for line in (head, ['---'] * len(head), *rows))


def read_image(path: str | Path,
               formats: Collection[str] = (),
               max_pixels: int | None = None,
               grey: bool = False) -> np.ndarray:
    """Reads a picture as the frameworks do, rotated as its EXIF data say.

    They read with OpenCV, which fills the missing part of a picture that is cut short with grey; Pillow notices.

    Args:
        path: The file.
        formats: Accepted formats, by Pillow's names and whatever the file is called: ``'JPEG'``, ``'PNG'``, ...; empty
            for all.
        max_pixels: The largest accepted number of pixels, checked in the file's header before anything is decoded.
        grey: Read it in grey.

    Returns:
        BGR ``(H, W, 3)``, or grey ``(H, W)``; uint8.

    Raises:
        InputError: If the file is missing, empty, damaged, of an unknown or unaccepted format, or too large.
    """
    import cv2  # weights and operators do not need it

    name = str(path)
    require_file(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        reason = 'does not exist' if isinstance(error, FileNotFoundError) else f'cannot be read: {error.strerror}'
        raise InputError(f'{name!r} {reason}') from error
    if not data:
        raise InputError(f'{name!r} is empty')
    _check_picture(name, data, formats, max_pixels)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f'{name!r} is not a picture that OpenCV can read: it begins with {data[:12]!r}')
    return image


def require_file(path: str | Path) -> None:
    """Raises InputError if ``path`` is a named pipe, a device or a socket: reading it might never end."""
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f'{str(path)!r} is not a file: it is a named pipe, a device or a socket')


def _check_picture(name: str, data: bytes, formats: Collection[str], max_pixels: int | None) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            if formats and image.format not in formats:
                raise InputError(f'{name!r} is a picture in {image.format} format; it must be one of '
                                 f'{", ".join(formats)}')
            if max_pixels and image.width * image.height > max_pixels:
                raise InputError(f'{name!r} has {image.width}x{image.height} pixels, more than the '
                                 f'{max_pixels / 1e6:g} million that are accepted')
            image.load()
    except InputError:
        raise
    except UnidentifiedImageError as error:
        if formats:
            raise InputError(f'{name!r} is not a picture: it begins with {data[:12]!r}') from error
        # OpenCV may know the format.
    except Image.DecompressionBombError as error:
        if max_pixels:
            raise InputError(f'{name!r} has too many pixels: {error}') from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(f'{name!r} is damaged: {error}') from error
