"""Pictures as a model takes them: read as its test pipeline does, with as many channels as the model takes."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.dataset import Compose

from ...errors import InputError
from ..data.reading import PipelineReader, loads_floats, loads_image
from ..kinds import kind_of


class PictureLoader(PipelineReader):
    """Reads files as the first step of a test pipeline does, and turns other pictures into what that would load.

    Args:
        pipeline: The steps, as the config describes them; the default scope must be set.
        channels: How many channels the model takes.
    """

    def __init__(self, pipeline: Sequence[dict], channels: int):
        super().__init__(pipeline)
        self.channels = channels

    def __call__(self, path: str | Path) -> np.ndarray:
        """Returns a picture as the pipeline would go on with it, ``(H, W)`` or ``(H, W, C)``.

        Raises:
            InputError: If the file cannot be read as a picture, or the model takes another number of channels.
        """
        return self.adapted(super().__call__(path), str(path))

    def adapted(self, image: np.ndarray, name: str = 'the picture') -> np.ndarray:
        """Returns ``image`` as the pipeline would have loaded it.

        Args:
            image: A picture, or a frame of a video, BGR ``(H, W, 3)``, uint8; one that this loader has read stays as it
                is.
            name: What to call it in messages.

        Raises:
            InputError: If the model takes another number of channels.
        """
        if self.is_grey and image.ndim == 3 and image.shape[2] == 3:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        channels = 1 if image.ndim == 2 else image.shape[2]
        if channels != self.channels:
            raise InputError(f'{name} has {channels} channels as it is loaded, but the model takes {self.channels}: '
                             'color_type and imdecode_backend of LoadImageFromFile in the test pipeline say how '
                             'pictures are loaded')
        return image


class Preparation:
    """The steps of a test pipeline after the one that loads the picture, without those that load annotations.

    Args:
        pipeline: The steps, as the config describes them; the default scope must be set.
    """

    def __init__(self, pipeline: Sequence[dict]):
        self._is_float = any(map(loads_floats, pipeline))
        self._steps = Compose([dict(step) for step in pipeline
                               if not loads_image(step) and 'Annotation' not in kind_of(step)])

    def __call__(self, image: np.ndarray) -> dict:
        """Returns a sample for a model's ``test_step``, from a picture ``(H, W)`` or ``(H, W, C)``."""
        size = image.shape[:2]
        image = image.astype(np.float32) if self._is_float else image
        return self._steps(dict(img=image, img_path=None, img_id=0, img_shape=size, ori_shape=size))
