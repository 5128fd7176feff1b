"""Pictures as a model takes them: read as its test pipeline does, with the channels that it has."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ...errors import InputError
from ..data.reading import PipelineReader


class PictureLoader(PipelineReader):
    """Reads files as the first step of a test pipeline does, and makes of other pictures what it would.

    Args:
        pipeline: The steps, as the config describes them; the default scope must be set.
        channels: How many the model takes.
    """

    def __init__(self, pipeline: Sequence[dict], channels: int):
        super().__init__(pipeline)
        self.channels = channels

    def __call__(self, path: str | Path) -> np.ndarray:
        """Returns a picture as the pipeline would go on with it, ``(H, W)`` or ``(H, W, C)``.

        Raises:
            InputError: If there is no picture, or it has not the channels that the model takes.
        """
        return self.adapted(super().__call__(path), str(path))

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
        channels = 1 if image.ndim == 2 else image.shape[2]
        if channels != self.channels:
            raise InputError(f'{name} has {channels} channels as it is loaded, and the model takes {self.channels}: '
                             'color_type and imdecode_backend of LoadImageFromFile in the test pipeline say how '
                             'pictures are loaded')
        return image
