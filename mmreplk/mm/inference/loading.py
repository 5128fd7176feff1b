"""Pictures as a test pipeline loads them, which need not be three bytes a pixel, and as they are shown."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS

from ...errors import InputError
from ...io import read_image
from ..kinds import kind_of


class PictureLoader:
    """Reads files as the first step of a test pipeline does, and makes of other pictures what it would.

    Args:
        pipeline: The steps, as the config describes them; the default scope must be set.
        channels: How many the model takes.
    """

    def __init__(self, pipeline: Sequence[dict], channels: int):
        steps = [step for step in pipeline if _loads_picture(step)]
        self._step = steps[0] if steps else {}
        self.channels = channels
        self.is_grey = self._step.get('color_type') == 'grayscale'
        is_usual = self._step.get('color_type', 'color') == 'color' and not self._step.get('to_float32') \
            and self._step.get('imdecode_backend', 'cv2') in (None, 'cv2')
        # Which takes a file of any kind, and notices what is cut short.
        self._transform = None if is_usual and kind_of(self._step) in ('', 'LoadImageFromFile') \
            else TRANSFORMS.build(dict(self._step))

    def __call__(self, path: str | Path) -> np.ndarray:
        """Returns a picture as the pipeline would go on with it, ``(H, W)`` or ``(H, W, C)``.

        Raises:
            InputError: If there is no picture, or it has not the channels that the model takes.
        """
        if self._transform is None:
            return self.adapted(read_image(path), str(path))
        if not Path(path).is_file():
            raise InputError(f'{str(path)!r} does not exist')
        try:
            image = self._transform(dict(img_path=str(path)))['img']
        except Exception as error:  # of whichever library decodes
            raise InputError(f'{str(path)!r} cannot be read by {kind_of(self._step)}, as the test pipeline says: '
                             f'{type(error).__name__}: {error}') from error
        self._require(image, str(path))
        return image

    def adapted(self, image: np.ndarray, name: str = 'the picture') -> np.ndarray:
        """Returns what the pipeline would have loaded instead of ``image``, BGR ``(H, W, 3)``, uint8.

        Args:
            image: A picture, or a frame of a video; one that this loader has read stays as it is.
            name: What to call it in messages.

        Raises:
            InputError: If the model takes other channels, and nobody can say what would be in them.
        """
        if self.is_grey and image.ndim == 3 and image.shape[2] == 3:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        self._require(image, name)
        return image

    def _require(self, image: np.ndarray, name: str) -> None:
        channels = 1 if image.ndim == 2 else image.shape[2]
        if channels != self.channels:
            raise InputError(f'{name} has {channels} channels as it is loaded, and the model takes {self.channels}: '
                             'color_type and imdecode_backend of LoadImageFromFile in the test pipeline say how '
                             'pictures are loaded')


class Preparation:
    """The steps of a test pipeline after the one that loads the picture, without those that load annotations.

    Args:
        pipeline: The steps, as the config describes them; the default scope must be set.
    """

    def __init__(self, pipeline: Sequence[dict]):
        self._is_float = any(step.get('to_float32') for step in pipeline if _loads_picture(step))
        self._steps = Compose([dict(step) for step in pipeline
                               if not _loads_picture(step) and 'Annotation' not in kind_of(step)])  # yapf: disable

    def __call__(self, image: np.ndarray) -> dict:
        """Returns what a model's ``test_step`` takes a list of, for a picture ``(H, W)`` or ``(H, W, C)``."""
        size = image.shape[:2]
        image = image.astype(np.float32) if self._is_float else image
        return self._steps(dict(img=image, img_path=None, img_id=0, img_shape=size, ori_shape=size))


def _loads_picture(step: dict) -> bool:
    return kind_of(step).startswith('Load') and 'Image' in kind_of(step)


def shown(image: np.ndarray) -> np.ndarray:
    """Returns a picture of any channels and depth as one that can be shown: BGR ``(H, W, 3)``, uint8.

    Of more than three channels the first three are shown, of two the first. Other than bytes are stretched from their
    least to their largest value.
    """
    image = image[..., None] if image.ndim == 2 else image
    image = image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, 2)
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = ((image.astype(np.float32) - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return np.ascontiguousarray(image)
