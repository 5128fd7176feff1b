"""Pictures and videos, read with a sentence about what is wrong with them."""

import io
import math
import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import InputError

VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')
DEFAULT_RATE = 25.0  # frames a second, of a video that does not say


def read_image(path: str | Path, formats: Collection[str] = (), max_pixels: int | None = None) -> np.ndarray:
    """Reads a picture as the frameworks do, turned as its EXIF data say.

    OpenCV, which they read with, makes the rest of a picture that is cut short grey; Pillow notices.

    Args:
        path: The file.
        formats: Which formats are taken, by Pillow's names and whatever the file is called: ``'JPEG'``, ``'PNG'``, ...;
            none for all.
        max_pixels: The most that are taken, by what the file's header says, before anything is decoded.

    Returns:
        BGR ``(H, W, 3)``, uint8.

    Raises:
        InputError: One sentence on why there is no picture: missing, empty, damaged, of no known or of another format,
            or too large.
    """
    name = str(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        reason = 'does not exist' if isinstance(error, FileNotFoundError) else f'cannot be read: {error.strerror}'
        raise InputError(f'{name!r} {reason}') from error
    if not data:
        raise InputError(f'{name!r} is empty')
    _check(name, data, formats, max_pixels)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f'{name!r} is no picture that OpenCV can read: it begins with {data[:12]!r}')
    return image


def _check(name: str, data: bytes, formats: Collection[str], max_pixels: int | None) -> None:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if formats and image.format not in formats:
                raise InputError(f'{name!r} is a picture in {image.format} format; it must be one of '
                                 f'{", ".join(formats)}')
            if max_pixels and image.width * image.height > max_pixels:
                raise InputError(f'{name!r} has {image.width}x{image.height} pixels, more than the '
                                 f'{max_pixels / 1e6:g} million that are taken')
            image.load()
    except InputError:
        raise
    except UnidentifiedImageError as error:
        if formats:
            raise InputError(f'{name!r} is no picture: it begins with {data[:12]!r}') from error
        # Of a format that only OpenCV may know.
    except Image.DecompressionBombError as error:
        if max_pixels:
            raise InputError(f'{name!r} has too many pixels: {error}') from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise InputError(f'{name!r} is damaged: {error}') from error


class VideoReader(AbstractContextManager):
    """The frames of a video file, turned as it says, one after the other.

    Args:
        path: The file.

    Raises:
        InputError: If OpenCV cannot read a video from it.

    Attributes:
        count: How many frames there should be: in some formats an estimate, 0 where the file does not say.
        rate: Frames a second.
    """

    def __init__(self, path: str | Path):
        if not os.path.isfile(path):
            raise InputError(f'{str(path)!r} does not exist')
        self._capture = cv2.VideoCapture(str(path))
        self._first = self._capture.read()[1] if self._capture.isOpened() else None
        if self._first is None:
            self._capture.release()
            raise InputError(f'{str(path)!r} is no video that OpenCV can read')
        self.count = max(0, round(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if math.isfinite(rate) and rate > 0 else DEFAULT_RATE

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields each frame once, BGR ``(H, W, 3)``, uint8."""
        frame = self._first
        while frame is not None:
            yield frame
            frame = self._capture.read()[1]

    def __exit__(self, *_) -> None:
        self._capture.release()


class VideoWriter(AbstractContextManager):
    """Writes an MP4 file (MPEG-4 Part 2, which every OpenCV can write) that appears whole or not at all.

    Args:
        path: The file, ending in ``.mp4``.
        rate: Frames a second.

    Raises:
        InputError: With the first frame, if OpenCV cannot write it.
    """

    def __init__(self, path: str | Path, rate: float):
        self._path, self._part = str(path), f'{Path(path).with_suffix("")}.part.mp4'
        self._rate = rate
        self._writer = None

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame, BGR ``(H, W, 3)``, uint8, of the size of the first."""
        if self._writer is None:
            Path(self._part).parent.mkdir(parents=True, exist_ok=True)
            self._writer = cv2.VideoWriter(self._part, cv2.VideoWriter_fourcc(*'mp4v'), self._rate, frame.shape[1::-1])
            if not self._writer.isOpened():
                raise InputError(f'OpenCV cannot write the video {self._path!r}')
        self._writer.write(frame)

    def __exit__(self, kind: type | None, *_) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if kind is None:
            os.replace(self._part, self._path)
        elif os.path.exists(self._part):
            os.unlink(self._part)
