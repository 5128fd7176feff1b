"""The pictures of a folder, one after the other, as a network takes them."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..io import read_image
from ..spread import evenly_spread

SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


def pictures_in(folder: str | Path) -> list[Path]:
    """Returns the pictures in a folder and the folders in it, by their names, in order; InputError if there is none."""
    found = sorted(path for path in Path(folder).rglob('*') if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InputError(f'there is no picture ({", ".join(SUFFIXES)}) in {str(folder)!r}')
    return found


def chosen_pictures(folder: str | Path, count: int) -> list[Path]:
    """Returns at most ``count`` of the pictures in a folder and the folders in it, evenly spread.

    Raises:
        InputError: If there is none, or ``count`` is not positive.
    """
    if count < 1:
        raise InputError(f'the count of images must be positive, got {count}')
    return evenly_spread(pictures_in(folder), count)


class ImageFolder(Sequence):
    """Pictures spread evenly over a folder and the folders in it, each read and prepared on access.

    Args:
        folder: The folder of the pictures.
        count: The largest number of pictures.
        preprocessor: MMEngine's data preprocessor of the model: normalization and the order of the channels.
        shape: Height and width to resize each picture to, bicubically; None keeps its own.
        channels: The number of channels that the network takes: 3, or 1 for grey pictures.

    Raises:
        InputError: If there is no picture in the folder, or the network takes other channels; on access, if a picture
            cannot be read, or the preprocessor pads it to another size than ``shape``.
    """

    def __init__(self, folder: str, count: int, preprocessor: nn.Module, shape: tuple[int, int] | None = None,
                 channels: int = 3):
        if channels not in (1, 3):
            raise InputError(f'the network takes {channels} channels, and pictures are read with one or three')
        if shape is not None and min(shape) < 1:
            raise InputError(f'the height and width of images must be positive, got {shape}')
        self.paths = chosen_pictures(folder, count)
        self.preprocessor = preprocessor
        self.shape = shape
        self.is_grey = channels == 1

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Returns the image ``(1, C, H, W)``, normalized, on the device of the preprocessor."""
        image = read_image(self.paths[index], grey=self.is_grey)
        if self.shape is not None:
            image = cv2.resize(image, self.shape[::-1], interpolation=cv2.INTER_CUBIC)
        pixels = torch.from_numpy(np.atleast_3d(image).transpose(2, 0, 1).copy())
        prepared = self.preprocessor(dict(inputs=[pixels], data_samples=[]))['inputs']
        if self.shape is not None and prepared.shape[-2:] != self.shape:
            raise InputError(f"the config's data_preprocessor pads images of {self.shape} (height, width) to "
                             f'{tuple(prepared.shape[-2:])}: choose a shape that it does not change')
        return prepared
