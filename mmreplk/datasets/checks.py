"""Whether a dataset on disk is what a config takes it for."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import InputError
from .coco_file import LISTED, left_out, listed, missing_classes, read_coco

IGNORED = 255


def check_segmentation(dataset: Sequence, sample: int = 200) -> Iterator[str]:
    """Looks for every file of a dataset of MMSegmentation, and into ``sample`` of them, evenly spread.

    Args:
        dataset: The dataset, as the config builds it.
        sample: How many images are opened with their label maps.

    Yields:
        Sentences on what is wrong: missing or unreadable files, label maps of another size, labels that no class has.
    """
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    paths = [info[key] for info in infos for key in ('img_path', 'seg_map_path')]
    yield from listed('files are missing', [path for path in paths if not os.path.isfile(path)])
    yield from without_images(dataset)
    classes = len(dataset.metainfo['classes'])
    # Where zero means unlabelled, files count classes from 1.
    first = int(bool(dataset.reduce_zero_label))
    unreadable, misfits, strange = [], [], {}
    chosen = [infos[i] for i in np.unique(np.linspace(0, len(infos) - 1, min(sample, len(infos))).round().astype(int))]
    for info in chosen:
        image, labels = cv2.imread(info['img_path']), cv2.imread(info['seg_map_path'], cv2.IMREAD_UNCHANGED)
        if image is None or labels is None:
            unreadable.append(info['img_path'] if image is None else info['seg_map_path'])
            continue
        if labels.shape != image.shape[:2]:
            misfits.append(f'{info["seg_map_path"]} {labels.shape} for {image.shape[:2]}')
        values = np.unique(labels)
        allowed = (values < classes + first) | (values == IGNORED)
        if not allowed.all():
            strange[info['seg_map_path']] = values[~allowed].tolist()[:LISTED]
    yield from listed('files cannot be read as pictures', unreadable)
    yield from listed('label maps are not of the size of their image (height, width[, channels])', misfits)
    yield from listed(f'label maps hold labels other than {first} to {classes + first - 1} and {IGNORED}',
                       [f'{path} has {values}' for path, values in strange.items()])  # yapf: disable


def without_images(dataset: Sequence) -> Iterator[str]:
    """Yields a sentence if there are label maps whose images are missing, which MMSegmentation passes over.

    Args:
        dataset: A dataset, or datasets in wrappers; only those of MMSegmentation without a list of images are compared.
    """
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    for child in filter(None, inner):
        yield from without_images(child)
    folder = (getattr(dataset, 'data_prefix', None) or {}).get('seg_map_path')
    suffix = getattr(dataset, 'seg_map_suffix', None)
    if not folder or not suffix or os.path.isfile(dataset.ann_file) or not os.path.isdir(folder):
        return
    maps = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names if name.endswith(suffix)]
    if len(maps) > len(dataset):
        used = {os.path.normpath(dataset.get_data_info(i)['seg_map_path']) for i in range(len(dataset))}
        yield from listed('label maps have no image and are left out', sorted({*map(os.path.normpath, maps)} - used))


def check_coco(annotations: str | Path, images: str | Path, classes: Sequence[str]) -> Iterator[str]:
    """Compares an annotation file in COCO's format with the images beside it.

    Args:
        annotations: The ``.json`` file.
        images: The folder of the images.
        classes: The names that the config trains.

    Yields:
        Sentences on what is wrong: what :func:`mmreplk.datasets.coco_file.read_coco` refuses, missing files, and what
        MMDetection leaves out.
    """
    try:
        labels = read_coco(annotations)
    except InputError as error:
        yield str(error)
        return
    paths = [os.path.join(images, image['file_name']) for image in labels['images']]
    yield from listed('files are missing', [path for path in paths if not os.path.isfile(path)])
    yield from missing_classes(labels, classes)
    yield from left_out(labels, classes)
