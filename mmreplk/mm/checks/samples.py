"""Checks every sample that is loaded, and names its files if it cannot be used."""

import os
import traceback

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from ...errors import InputError
from ..data.proxy import DatasetProxy

# What Pillow calls label maps of more than 8 bits, which MMSegmentation would cut to their last 8.
WIDE_MODES = ('I', 'F', 'I;16', 'I;16B', 'I;16L')
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # of EXIF: height and width change places


class CheckedDataset(DatasetProxy):
    """Stands before a dataset of MMSegmentation or MMDetection and refuses samples that would corrupt a run.

    Before a sample is loaded for the first time, its files are looked at: an image must have the size of its label map,
    or the one that its annotation says, a JPEG must not be cut short, and labels must have 8 bits. After each loading,
    labels must be those of the dataset's classes or ``ignore_index``, and boxes finite.

    Args:
        dataset: The dataset.
        num_classes: How many classes the model tells apart; None if that is not known.

    Raises:
        InputError: With the sample's files and the reason, whatever went wrong in loading.
    """

    def __init__(self, dataset: Dataset, num_classes: int | None = None):
        super().__init__(dataset, _known=set(), _num_classes=num_classes)

    def __getitem__(self, index: int) -> dict:
        try:
            if index not in self._known:
                _check_files(self._info(index))
                self._known.add(index)
            sample = self._dataset[index]
            _check_annotations(sample, self._dataset, self._num_classes)
        except Exception as error:
            info = self._info(index)
            files = ' with '.join(str(info[key]) for key in ('img_path', 'seg_map_path') if info.get(key))
            reason = str(error) if isinstance(error, _Refused) else _told(error)
            raise InputError(f'{files or f"sample {index}"} cannot be used: {reason}') from error
        return sample

    def _info(self, index: int) -> dict:
        return self._dataset.get_data_info(index) if hasattr(self._dataset, 'get_data_info') else {}


class _Refused(Exception):
    """A reason in plain words."""


def _told(error: Exception) -> str:
    """Returns an error in words, with the transform that raised it."""
    names = [f'{type(frame.f_locals.get("self")).__name__}: ' for frame, _ in traceback.walk_tb(error.__traceback__)
             if frame.f_code.co_name == 'transform']
    return f'{"".join(names[-1:])}{type(error).__name__}{f": {error}" if str(error) else ""}'


def _check_files(info: dict) -> None:
    sizes = {}
    for key in ('img_path', 'seg_map_path'):
        path = info.get(key)
        if not path or '://' in str(path):
            continue
        if not os.path.getsize(path):
            raise _Refused(f'{path} is empty')
        try:
            image = Image.open(path)
        except UnidentifiedImageError:  # of a format that the dataset's own loader may know
            continue
        with image:
            width, height = image.size
            sizes[key] = (height, width) if image.getexif().get(ORIENTATION) in TURNED else (width, height)
            if key == 'seg_map_path' and image.mode in WIDE_MODES:
                raise _Refused(f'the label map has {image.mode!r} pixels; labels must be of 8 bits')
            if image.format == 'JPEG':  # OpenCV makes up the rest of one that is cut short
                image.draft(image.mode, (1, 1))
                image.load()
    said = info.get('width'), info.get('height')
    if 'img_path' in sizes and None not in said and sizes['img_path'] not in (said, said[::-1]):
        raise _Refused(f'the image has {"x".join(map(str, sizes["img_path"]))} pixels, its annotation says '
                       f'{"x".join(map(str, said))}')
    if len(set(sizes.values())) > 1:
        (width, height), (label_width, label_height) = sizes.values()
        raise _Refused(f'the image has {width}x{height} pixels, the label map {label_width}x{label_height}')


def _check_annotations(sample: dict, dataset: Dataset, num_classes: int | None) -> None:
    annotation = sample.get('data_samples') if isinstance(sample, dict) else None
    if annotation is None or isinstance(annotation, list):  # a list: augmentations of one image at test time
        return
    if 'gt_sem_seg' in annotation:
        labels = annotation.gt_sem_seg.data
        if labels.ndim != 3 or labels.shape[0] != 1:
            raise _Refused(f'the label map has the shape {tuple(labels.shape)}; it must hold one label a pixel, '
                           'not colours')
        _check_labels(labels, dataset, num_classes)
    instances = annotation.get('gt_instances') if 'gt_instances' in annotation else None
    if 'labels' in (instances or ()):
        _check_labels(instances.labels, dataset, num_classes)
    boxes = getattr(instances, 'bboxes', None)
    if boxes is not None:
        boxes = boxes if isinstance(boxes, Tensor) else boxes.tensor
        if not boxes.isfinite().all():
            raise _Refused(f'boxes must be finite, got {boxes[~boxes.isfinite().all(-1)][0].tolist()}')


def _check_labels(labels: Tensor, dataset: Dataset, num_classes: int | None) -> None:
    classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    known = len(classes or ()) or num_classes
    ignored = getattr(dataset, 'ignore_index', 255)
    if known is None:
        return
    fewest = min(known, num_classes or known)
    wrong = torch.unique(labels[(labels != ignored) & ((labels < 0) | (labels >= fewest))]).tolist()
    if wrong:
        shown = ', '.join(map(str, wrong[:5])) + (', ...' if len(wrong) > 5 else '')
        of = f'num_classes of the model is {num_classes}' if fewest < known else f'there are {known} classes'
        raise _Refused(f'it has labels {shown} (as reduce_zero_label leaves them); {of}, 0 to {fewest - 1}, and '
                       f'{ignored} is ignored')
