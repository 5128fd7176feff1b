"""Reads pictures as a pipeline does, of any channels and depth, and turns them into ones that can be shown."""

import importlib.util
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.registry import TRANSFORMS
from PIL import Image, ImageOps

from ...errors import InputError
from ...io import read_image, require_file
from ..kinds import kind_of

# What some loading steps need and MMCV and MMSegmentation do not install: the module, and how to get it.
_DECODERS = {
    'tifffile': ('tifffile', 'pip install tifffile'),
    'turbojpeg': ('turbojpeg', 'pip install PyTurboJPEG'),
}
_GDAL = ('LoadSingleRSImageFromFile', 'LoadMultipleRSImageFromFile')


def missing_decoder(step: object) -> str | None:
    """Returns a clause on what a loading step of a pipeline needs and is not installed; None if nothing is missing."""
    decoder = step.get('imdecode_backend') if isinstance(step, dict) else None
    module, remedy = _DECODERS.get(decoder, (None, '')) if isinstance(decoder, str) else (None, '')
    if kind_of(step) in _GDAL:
        module, remedy = 'osgeo', ("install GDAL, or load with LoadImageFromFile, imdecode_backend='tifffile', "
                                   'to_float32=True, for which tifffile is enough')
    if module is None or importlib.util.find_spec(module) is not None:
        return None
    return f'{kind_of(step)} needs {"GDAL" if module == "osgeo" else module}, which is not installed: {remedy}'


def loads_image(step: dict) -> bool:
    """Says whether a step of a pipeline reads a picture."""
    return kind_of(step).startswith('Load') and 'Image' in kind_of(step)


def loads_floats(step: dict) -> bool:
    """Says whether a step of a pipeline reads a picture as floating-point numbers."""
    return loads_image(step) and bool(step.get('to_float32', kind_of(step) in _GDAL))


def unwrapped(dataset: dict | None) -> dict | None:
    """Returns the description of the dataset with a pipeline inside any wrappers, the first of several; None without.
    """
    while dataset and not dataset.get('pipeline'):
        dataset = dataset.get('dataset') or next(iter(dataset.get('datasets') or []), None)
    return dataset or None


def pipeline_of(dataset: dict | None) -> list[dict]:
    """Returns the pipeline in the description of a dataset, inside any wrappers; of several datasets, the first's."""
    found = unwrapped(dataset)
    return found['pipeline'] if found else []


class PipelineReader:
    """Reads files as the first step of a pipeline does.

    Args:
        pipeline: The steps, as the config describes them; the default scope must be set.

    Raises:
        InputError: If that step needs a package that is not installed.
    """

    def __init__(self, pipeline: Sequence[dict]):
        self._step = next(filter(loads_image, pipeline), {})
        self.is_grey = self._step.get('color_type') == 'grayscale'
        missing = missing_decoder(self._step)
        if missing:
            raise InputError(missing)
        is_plain = self._step.get('color_type', 'color') == 'color' and not self._step.get('to_float32') \
            and self._step.get('imdecode_backend', 'cv2') in (None, 'cv2')
        # Then read_image does as well; it takes any kind of picture, and notices files that are cut short.
        self.is_usual = is_plain and kind_of(self._step) in ('', 'LoadImageFromFile')
        self._transform = None if self.is_usual else TRANSFORMS.build(dict(self._step))

    def __call__(self, path: str | Path) -> np.ndarray:
        """Returns a picture as the pipeline would go on with it, ``(H, W)`` or ``(H, W, C)``.

        Raises:
            InputError: If there is no file, or it cannot be read as a picture.
        """
        if self._transform is None:
            return read_image(path)
        require_file(path)
        if not Path(path).is_file():
            raise InputError(f'{str(path)!r} does not exist')
        try:
            return self._transform(dict(img_path=str(path)))['img']
        except Exception as error:  # of whichever library decodes
            raise InputError(f'{str(path)!r} cannot be read by {kind_of(self._step)}, as the pipeline says: '
                             f'{type(error).__name__}: {error}') from error


def read_whole(path: str) -> np.ndarray | None:
    """Returns a picture, turned as its EXIF data say, or None if there is no file or it cannot be read to its end.

    ``(H, W)`` or ``(H, W, C)``, with the channels and the type that Pillow reads.
    """
    if not os.path.isfile(path):  # a named pipe would be waited for
        return None
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            return np.asarray(ImageOps.exif_transpose(image))
    # What Pillow raises for damaged files, and for those of more pixels than it takes, as loading them would.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def shown(image: np.ndarray) -> np.ndarray:
    """Returns a picture of any channels and depth as one that can be shown: BGR ``(H, W, 3)``, uint8.

    Of more than three channels the first three are shown, of two the first. Values that are not bytes are stretched so
    that the least becomes 0 and the largest 255.
    """
    image = image[..., None] if image.ndim == 2 else image
    image = image[..., :3] if image.shape[2] >= 3 else image[..., :1].repeat(3, 2)
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = ((image.astype(np.float32) - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return np.ascontiguousarray(image)
