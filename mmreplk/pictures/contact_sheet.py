"""Predictions beside the truth, in one picture."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from ..io import read_image
from ..spread import evenly_spread

GAP = 4  # pixels between the parts of a sheet


def contact_sheet(dataset: Sequence, predictions: str | Path, count: int = 6,
                  read: Callable[[str], np.ndarray] = read_image) -> np.ndarray:
    """Draws rows of image, ground truth and prediction, for ``count`` pictures spread over ``dataset``.

    Args:
        dataset: A segmentation dataset of MMSegmentation.
        predictions: The folder that ``tools/test.py --out`` wrote: one label map per image.
        count: Number of rows at most.
        read: Returns a picture as it is to be shown, BGR ``(H, W, 3)``, uint8.

    Returns:
        The sheet ``(H, W, 3)``, uint8, BGR as OpenCV writes it. What the ground truth leaves unlabelled is black in
        both maps.

    Raises:
        InputError: If a prediction is missing or does not fit its image.
    """
    if count < 1:
        raise InputError(f'the number of rows must be positive, got {count}')
    rows = []
    for i in evenly_spread(range(len(dataset)), count):
        rows.append(label_row(*read_maps(dataset, i, predictions, read=read), dataset.metainfo['palette']))
    return _join(rows, axis=0)


def read_maps(dataset: Sequence, index: int, *predictions: str | Path,
              read: Callable[[str], np.ndarray] = read_image) -> list[np.ndarray]:
    """Reads a picture, its true labels and predicted ones.

    Args:
        dataset: A segmentation dataset of MMSegmentation.
        index: The index of the picture.
        predictions: Folders that ``tools/test.py --out`` wrote.
        read: Returns a picture as it is to be shown, BGR ``(H, W, 3)``, uint8.

    Returns:
        The image ``(H, W, 3)``, uint8, BGR, the true labels ``(H, W)``, uint8, 255 where unlabelled, and the labels
        from each folder, as the model numbers the classes.

    Raises:
        InputError: If a file is missing, or a prediction does not fit its image.
    """
    info = dataset.get_data_info(index)
    if not info.get('seg_map_path'):
        raise InputError(f'{info["img_path"]} has no label map to draw beside its prediction')
    image, truth = read(info['img_path']), cv2.imread(info['seg_map_path'], cv2.IMREAD_UNCHANGED)
    if truth is None:
        raise InputError(f'{info["seg_map_path"]!r} is missing or cannot be read as a label map')
    # Files hold 0 for unlabelled and classes from 1 on; the subtraction wraps 0 around to 255.
    first = np.uint8(bool(info.get('reduce_zero_label')))
    maps = []
    for folder in predictions:
        path = Path(folder, Path(info['img_path']).stem + '.png')
        predicted = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if predicted is None or predicted.shape != truth.shape:
            raise InputError(f'{path} is missing or not a label map of {truth.shape[1]}x{truth.shape[0]} pixels')
        maps.append(predicted - first)
    # If a config chooses some of the dataset's classes, predictions have the new numbers and files the old ones.
    numbers = np.arange(256, dtype=np.uint8)
    for old, new in (info.get('label_map') or {}).items():
        numbers[old] = new
    return [image, numbers[truth - first], *maps]


def label_row(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, palette: Sequence) -> np.ndarray:
    """Draws an image, its true labels and the predicted ones side by side.

    Args:
        image: ``(H, W, 3)``, uint8, BGR.
        truth: ``(H, W)``, uint8, 255 where unlabelled, which is black in both maps.
        predicted: As ``truth``.
        palette: The classes' colours, RGB.

    Returns:
        The row, ``(H, W', 3)``, uint8, BGR.
    """
    colours = np.zeros((256, 3), np.uint8)
    colours[:len(palette)] = np.array(palette, np.uint8)[:, ::-1]
    return _join([image, colours[truth], colours[np.where(truth == 255, 255, predicted)]], axis=1)


def instance_sheet(dataset: Sequence, predictions: str | Path, count: int = 6,
                   read: Callable[[str], np.ndarray] = read_image, score: float = 0.5) -> np.ndarray:
    """Draws rows of image, true masks and predicted masks, for ``count`` pictures spread over ``dataset``.

    Args:
        dataset: An instance segmentation dataset of MMDetection.
        predictions: The folder that ``tools/test.py --out`` wrote, with ``predictions.segm.json`` in it.
        count: Number of rows at most.
        read: Returns a picture as it is to be shown, BGR ``(H, W, 3)``, uint8.
        score: The lowest score of the masks that are drawn.

    Returns:
        The sheet ``(H, W, 3)``, uint8, BGR as OpenCV writes it, each instance in a colour of its own.

    Raises:
        InputError: If the masks cannot be read, or one has another size than its image.
    """
    predicted = _read_masks(Path(predictions, 'predictions.segm.json'), score)
    if count < 1:
        raise InputError(f'the number of rows must be positive, got {count}')
    rows = []
    for i in evenly_spread(range(len(dataset)), count):
        info = dataset.get_data_info(i)
        image, kept = read(info['img_path']), predicted.get(info['img_id'], [])
        for mask in kept:
            if list(mask['size']) != list(image.shape[:2]):
                raise InputError(f'{predictions} has a mask of {mask["size"]} pixels for {info["img_path"]}, which has '
                                 f'{list(image.shape[:2])}')
        rows.append(instance_row(image, [instance['mask'] for instance in info['instances']], kept))
    return _join(rows, axis=0)


def _read_masks(path: Path, score: float) -> dict[int, list[dict]]:
    """Returns the masks of a file in COCO's format of results that have at least this score, by image id."""
    masks: dict[int, list[dict]] = {}
    try:
        for found in json.loads(path.read_text()):
            if found['score'] >= score:
                masks.setdefault(found['image_id'], []).append(dict(found['segmentation']))
    except OSError as error:
        raise InputError(f'{str(path)!r} cannot be read: {error.strerror}. tools/test.py --out writes it for a '
                         'detector with masks') from error
    except (ValueError, TypeError, KeyError) as error:
        reason = f'{type(error).__name__}: {error}'
        raise InputError(f"{str(path)!r} does not hold masks in COCO's format: {reason}") from error
    return masks


def instance_row(image: np.ndarray, truth: Sequence, predicted: Sequence) -> np.ndarray:
    """Draws an image, its true instances and the predicted ones side by side, each instance in a colour of its own.

    Args:
        image: ``(H, W, 3)``, uint8, BGR.
        truth: Masks, each as polygons or run lengths in COCO's format or as a boolean array ``(H, W)``; or boxes, each
            as an array ``(4,)`` of left, top, right and bottom in pixels.
        predicted: As ``truth``.

    Returns:
        The row, ``(H, W', 3)``, uint8, BGR.
    """
    return _join([image, _paint(image, truth), _paint(image, predicted)], axis=1)


def _paint(image: np.ndarray, instances: Sequence) -> np.ndarray:
    painted = image.copy()
    for number, instance in enumerate(instances):
        hue = np.uint8([[[number * 67 % 180, 200, 255]]])
        colour = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0]
        if isinstance(instance, np.ndarray) and instance.shape == (4, ):
            left, top, right, bottom = (int(edge) for edge in instance.round())
            cv2.rectangle(painted, (left, top), (right, bottom), colour.tolist(), 2)
        else:
            inside = _decode(instance, image.shape[:2])
            painted[inside] = (0.5 * painted[inside] + 0.5 * colour).astype(np.uint8)
    return painted


def _decode(mask: list | dict | np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask as coco  # comes with MMDetection
    if isinstance(mask, np.ndarray):
        return mask.astype(bool)
    if isinstance(mask, list):
        mask = coco.merge(coco.frPyObjects(mask, *size))
    elif isinstance(mask['counts'], list):
        mask = coco.frPyObjects(mask, *size)
    return coco.decode(mask).astype(bool)


def _join(parts: list[np.ndarray], axis: int) -> np.ndarray:
    """Joins pictures with white gaps, in a column (axis 0) or a row (axis 1)."""
    length = max(part.shape[1 - axis] for part in parts)
    padded = []
    for part in parts:
        margin = [(0, 0), (0, 0), (0, 0)]
        margin[axis] = (0, GAP)
        margin[1 - axis] = (0, length - part.shape[1 - axis])
        padded.append(np.pad(part, margin, constant_values=255))
    return np.concatenate(padded, axis).take(range(sum(p.shape[axis] for p in padded) - GAP), axis)
