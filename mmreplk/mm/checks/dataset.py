"""Whether a dataset on disk is what a config takes it for."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .coco_file import LISTED, left_out, listed, missing_classes

IGNORED = 255
UNREADABLE = 'files cannot be read as pictures'


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
    missing = {path for path in paths if not os.path.isfile(path)}
    yield from listed('files are missing', [path for path in paths if path in missing])
    yield from without_images(dataset)
    classes = len(dataset.metainfo['classes'])
    # Where zero means unlabelled, files count classes from 1.
    first = int(bool(dataset.reduce_zero_label))
    unreadable, misfits, strange = [], [], {}
    present = [info for info in infos if missing.isdisjoint([info['img_path'], info['seg_map_path']])]
    for info in _spread(present, sample):
        image, labels = _read(info['img_path']), _read(info['seg_map_path'])
        if image is None or labels is None:
            unreadable += [info[key] for key, read in (('img_path', image), ('seg_map_path', labels)) if read is None]
            continue
        if labels.shape != image.shape[:2]:
            misfits.append(f'{info["seg_map_path"]} {labels.shape} for {image.shape[:2]}')
        values = np.unique(labels)
        allowed = (values < classes + first) | (values == IGNORED)
        if not allowed.all():
            strange[info['seg_map_path']] = values[~allowed].tolist()[:LISTED]
    yield from listed(UNREADABLE, unreadable)
    yield from listed('label maps are not of the size of their image (height, width[, channels])', misfits)
    yield from listed(f'label maps hold labels other than {first} to {classes + first - 1} and {IGNORED}',
                       [f'{path} has {values}' for path, values in strange.items()])


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


def check_coco(labels: dict, images: str | Path, classes: Sequence[str], sample: int = 200) -> Iterator[str]:
    """Compares annotations in COCO's format with the images beside them, and looks into ``sample``, evenly spread.

    Args:
        labels: What :func:`mmreplk.mm.checks.coco_file.read_coco` returned.
        images: The folder of the images.
        classes: The names that the config trains.
        sample: How many images are opened.

    Yields:
        Sentences on what is wrong: missing or unreadable files, images of another size, classes without a category,
        annotations without a mask where others have one, and what MMDetection leaves out.
    """
    sizes = {image['id']: (image['width'], image['height']) for image in labels['images']}
    paths = {os.path.join(images, image['file_name']): sizes[image['id']] for image in labels['images']}
    missing = [path for path in paths if not os.path.isfile(path)]
    yield from listed('files are missing', missing)
    unreadable, misfits = [], []
    for path in _spread(sorted(paths.keys() - missing), sample):
        width, height = paths[path]
        image = _read(path)
        if image is None:
            unreadable.append(path)
        elif image.shape[:2] != (height, width):
            misfits.append(f'{path} {image.shape[:2]} for {(height, width)}')
    yield from listed(UNREADABLE, unreadable)
    yield from listed('images are not of the size that the file says (height, width)', misfits)
    yield from missing_classes(labels, classes)
    without = [annotation['id'] for annotation in labels['annotations'] if not annotation.get('segmentation')]
    if len(without) < len(labels['annotations']):
        yield from listed('annotations have no mask', without)
    yield from left_out(labels, classes)


def _spread(items: list, count: int) -> list:
    """Returns at most ``count`` of ``items``, evenly spread."""
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))]


def _read(path: str) -> np.ndarray | None:
    """Returns a picture as it is to be seen, or None if it cannot be read to its end."""
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError):  # what Pillow raises for damaged files
        return None
