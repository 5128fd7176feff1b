"""Whether a dataset on disk is what a config takes it for."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

IGNORED = 255
LISTED = 3  # how many files of a kind a problem names


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
    yield from _listed('files are missing', [path for path in paths if not os.path.isfile(path)])
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
    yield from _listed('files cannot be read as pictures', unreadable)
    yield from _listed('label maps are not of the size of their image (height, width[, channels])', misfits)
    yield from _listed(f'label maps hold labels other than {first} to {classes + first - 1} and {IGNORED}',
                       [f'{path} has {values}' for path, values in strange.items()])  # yapf: disable


def check_coco(annotations: str | Path, images: str | Path, classes: Sequence[str]) -> Iterator[str]:
    """Compares an annotation file in COCO's format with the images beside it.

    Args:
        annotations: The ``.json`` file.
        images: The folder of the images.
        classes: The names that the config trains.

    Yields:
        Sentences on what is wrong: missing files, categories that no annotation file has, annotations of unknown
        images, boxes that are empty or reach out of their image.
    """
    labels = json.loads(Path(annotations).read_text())
    sizes = {image['id']: (image['width'], image['height']) for image in labels['images']}
    paths = [os.path.join(images, image['file_name']) for image in labels['images']]
    yield from _listed('files are missing', [path for path in paths if not os.path.isfile(path)])
    known = {category['name'] for category in labels['categories']}
    yield from _listed('classes of the config are not categories of the file', [c for c in classes if c not in known])
    yield from _listed('annotations are of images that the file does not list',
                       [a['id'] for a in labels['annotations'] if a['image_id'] not in sizes])  # yapf: disable
    outside = []
    for annotation in labels['annotations']:
        x, y, width, height = annotation['bbox']
        right, bottom = sizes.get(annotation['image_id'], (np.inf, np.inf))
        # Boxes are rounded to hundredths.
        if min(width, height) <= 0 or min(x, y) < -1 or x + width > right + 1 or y + height > bottom + 1:
            outside.append(annotation['id'])
    yield from _listed('annotations have boxes that are empty or reach out of their image', outside)


def _listed(what: str, items: list) -> Iterator[str]:
    if items:
        more = ', ...' if len(items) > LISTED else ''
        yield f'{len(items)} {what}: {", ".join(map(str, items[:LISTED]))}{more}'
