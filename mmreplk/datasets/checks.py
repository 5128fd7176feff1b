"""Whether a dataset on disk is what a config takes it for."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

IGNORED = 255
LISTED = 3  # how many files of a kind a problem names
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
    yield from _listed('files are missing', [path for path in paths if path in missing])
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
    yield from _listed(UNREADABLE, unreadable)
    yield from _listed('label maps are not of the size of their image (height, width[, channels])', misfits)
    yield from _listed(f'label maps hold labels other than {first} to {classes + first - 1} and {IGNORED}',
                       [f'{path} has {values}' for path, values in strange.items()])


def check_coco(labels: dict, images: str | Path, classes: Sequence[str], sample: int = 200) -> Iterator[str]:
    """Compares annotations in COCO's format with the images beside them, and looks into ``sample``, evenly spread.

    Args:
        labels: What the ``.json`` file holds.
        images: The folder of the images.
        classes: The names that the config trains.
        sample: How many images are opened.

    Yields:
        Sentences on what is wrong: missing or unreadable files, images of another size, classes without a category,
        annotations that are not unique, of unknown images or categories, without a mask where others have one, or with
        boxes that are empty or reach out of their image.
    """
    lacking = [key for key in ('images', 'annotations', 'categories') if key not in labels]
    if lacking:
        yield f"this is not COCO's format: it has no {', '.join(lacking)}"
        return
    sizes = {image['id']: (image['width'], image['height']) for image in labels['images']}
    paths = {os.path.join(images, image['file_name']): sizes[image['id']] for image in labels['images']}
    missing = [path for path in paths if not os.path.isfile(path)]
    yield from _listed('files are missing', missing)
    unreadable, misfits = [], []
    for path in _spread(sorted(paths.keys() - missing), sample):
        width, height = paths[path]
        image = _read(path)
        if image is None:
            unreadable.append(path)
        elif image.shape[:2] != (height, width):
            misfits.append(f'{path} {image.shape[:2]} for {(height, width)}')
    yield from _listed(UNREADABLE, unreadable)
    yield from _listed('images are not of the size that the file says (height, width)', misfits)
    names = {category['name'] for category in labels['categories']}
    numbers = {category['id'] for category in labels['categories']}
    annotations = labels['annotations']
    yield from _listed('classes of the config are not categories of the file', [c for c in classes if c not in names])
    yield from _listed('annotations have an id that others have',
                       [number for number, count in Counter(a['id'] for a in annotations).items() if count > 1])
    for what, key, known in (('images', 'image_id', sizes), ('categories', 'category_id', numbers)):
        yield from _listed(f'annotations are of {what} that the file does not list',
                           [a['id'] for a in annotations if a[key] not in known])
    without = [a['id'] for a in annotations if not a.get('segmentation')]
    if len(without) < len(annotations):
        yield from _listed('annotations have no mask', without)
    outside = []
    for annotation in annotations:
        x, y, width, height = annotation['bbox']
        right, bottom = sizes.get(annotation['image_id'], (np.inf, np.inf))
        # Boxes are rounded to hundredths.
        if min(width, height) <= 0 or min(x, y) < -1 or x + width > right + 1 or y + height > bottom + 1:
            outside.append(annotation['id'])
    yield from _listed('annotations have boxes that are empty or reach out of their image', outside)


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


def _listed(what: str, items: list) -> Iterator[str]:
    if items:
        more = ', ...' if len(items) > LISTED else ''
        yield f'{len(items)} {what}: {", ".join(map(str, items[:LISTED]))}{more}'
