"""Whether an exported network computes what the trained model does."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ...errors import InputError
from ...io import read_image
from ...pictures.images import pictures_in
from .formats import Runner
from .networks import class_scores, is_segmentor

LARGEST_SIDE = 1024  # pixels; larger pictures are reduced to it


class Check(NamedTuple):
    """How far apart two networks are on one batch.

    Attributes:
        shape: The shape of the batch, ``(N, C, H, W)``.
        difference: The largest difference, divided by the largest value of its output. If a label is not the model's
            own, the difference is half of the gap between the two labels' logits, as each may be off by that much.
    """
    shape: tuple[int, ...]
    difference: float


@torch.no_grad()
def compare(model: nn.Module, run: Runner, batches: Sequence[Tensor], labels: bool = False) -> Iterator[Check]:
    """Compares an exported network, batch by batch, with the model that it was exported from.

    Args:
        model: In evaluation mode, neither merged nor folded.
        run: The exported network.
        batches: Pixels ``(N, C, H, W)``.
        labels: Whether ``run`` returns labels.
    """
    for images in batches:
        expected = expected_outputs(model, images)
        actual = run(images)
        if labels:
            scores = class_scores(expected[0], model)
            lost = scores.amax(1) - scores.gather(1, actual[0][:, None])[:, 0]
            differences = [lost.max() / 2 / scores.abs().max()]
        else:
            differences = [(a - e).abs().max() / e.abs().max() for a, e in zip(actual, expected, strict=True)]
        yield Check(tuple(images.shape), torch.stack(differences).max().item())


def expected_outputs(model: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """Returns the logits of a segmentor, or the features of a detector, as its own test computes them from pixels."""
    x = model.data_preprocessor(dict(inputs=list(images), data_samples=[]))['inputs']
    if not is_segmentor(model):
        return tuple(model.extract_feat(x))
    logits = model.encode_decode(x, [dict(img_shape=x.shape[2:])])
    return (logits[:, :, :images.shape[2], :images.shape[3]], )


def real_batches(folder: str | Path, count: int = 4, channels: int = 3) -> list[Tensor]:
    """Returns the first pictures of a folder as batches: each as it is, and a batch of two of another size.

    Args:
        folder: Where the pictures are, also in its subfolders.
        count: How many pictures at most.
        channels: How many channels the network takes: three, or one for pictures in grey.

    Returns:
        Pixels ``(N, C, H, W)`` from 0 to 255, blue first as OpenCV decodes them, in float32.

    Raises:
        InputError: If there is no picture there, one cannot be read, or the network takes other channels.
    """
    paths = pictures_in(folder)[:count]
    if channels not in (1, 3):
        raise InputError(f'the network takes {channels} channels, and pictures are read with one or three: compare on '
                         'noise, without pictures')
    alone = [_read(path, channels) for path in paths]
    smaller = alone[0][:, :, 3:, 5:]
    return [*alone, torch.cat([smaller, smaller.flip(3)])]


def random_batches(shape: tuple[int, int, int]) -> list[Tensor]:
    """Returns noise as batches: an image ``(C, H, W)`` of this shape, and two of another size."""
    channels, height, width = shape
    generator = torch.Generator().manual_seed(0)
    sizes = (1, channels, height, width), (2, channels, height + 13, width + 22)
    return [torch.randint(256, size, generator=generator).float() for size in sizes]


def _read(path: Path, channels: int) -> Tensor:
    image = read_image(path, grey=channels == 1)
    scale = LARGEST_SIDE / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.atleast_3d(image).transpose(2, 0, 1)).float()[None]
