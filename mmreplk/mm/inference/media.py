"""Reads and writes videos, and says in a sentence what is wrong with them."""

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np

from ...errors import InputError

VIDEO_SUFFIXES = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')
DEFAULT_RATE = 25.0  # frames a second, for a video that does not say


class VideoReader(AbstractContextManager):
    """The frames of a video file, one after the other, turned as the file says.

    Args:
        path: The file.

    Raises:
        InputError: If OpenCV cannot read a video from it.

    Attributes:
        count: How many frames there should be: in some formats an estimate, 0 if the file does not say.
        rate: Frames a second.
    """

    def __init__(self, path: str | Path):
        if not os.path.isfile(path):
            raise InputError(f'{str(path)!r} does not exist')
        self._capture = cv2.VideoCapture(str(path))
        self._first = self._capture.read()[1] if self._capture.isOpened() else None
        if self._first is None:
            self._capture.release()
            raise InputError(f'{str(path)!r} is not a video that OpenCV can read')
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
