"""A label for every pixel."""

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from .classes import Classes
from .overlays import Entry


@dataclass(frozen=True)
class Segmentation:
    """What a segmentor finds in a picture.

    Attributes:
        labels: ``(H, W)``, uint8, or uint16 for more than 256 classes: indices of the model's classes.
    """

    labels: np.ndarray
    suffix: ClassVar[str] = '.png'

    def layer(self, classes: Classes) -> np.ndarray:
        """Returns what is laid over the picture: RGBA ``(H, W, 4)``, uint8, opaque."""
        return np.dstack([classes.colours[self.labels], np.full(self.labels.shape, 255, np.uint8)])

    def legend(self, classes: Classes) -> list[Entry]:
        """Returns the classes in the picture, the most frequent first, with the share of each."""
        found, counts = np.unique(self.labels, return_counts=True)
        parts = counts / self.labels.size
        return [Entry(classes.names[found[i]], tuple(classes.colours[found[i]].tolist()),
                      f'{parts[i]:.1%}' if parts[i] >= 0.001 else '<0.1%')
                for i in np.argsort(-counts, kind='stable')]

    def raw(self, classes: Classes, file_name: str) -> bytes:
        """Returns a PNG whose pixels are the labels and, up to 256 classes, whose palette is that of the classes."""
        image = Image.fromarray(self.labels)
        if self.labels.dtype == np.uint8:
            image.putpalette(classes.colours.tobytes())
        buffer = io.BytesIO()
        image.save(buffer, 'PNG')
        return buffer.getvalue()
