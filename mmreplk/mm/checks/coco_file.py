"""Annotation files in COCO's format: what breaks a run, and what MMDetection leaves out without a word."""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...spread import evenly_spread
from ..data.reading import read_whole

LISTED = 3  # how many things of a kind a problem names
UNREADABLE = 'files cannot be read as pictures'
_LARGEST = 1e9  # of any number; also refuses infinities and NaN, which Python's JSON reader takes


def read_coco(path: str | Path, labelled: bool = True) -> dict:
    """Reads an annotation file, and refuses what MMDetection or pycocotools would fail on or misread.

    Args:
        path: The ``.json`` file.
        labelled: Whether it must have annotations; a test split has none.

    Returns:
        Its contents, with an empty list of annotations if it has none.

    Raises:
        InputError: If it is not in COCO's format, what should be a number is not, identifiers are not unique, or masks
            are not of the size of their image or reach far out of it. It names the file and the first entries.
    """
    try:
        labels = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f'{path} cannot be read: {error.strerror}') from error
    except (ValueError, RecursionError) as error:
        raise InputError(f'{path} is not JSON: {error}') from error
    _require(path, isinstance(labels, dict), 'is not of COCO\'s format: its JSON is not an object')
    if not labelled:
        labels.setdefault('annotations', [])
    for kind in ('images', 'annotations', 'categories'):
        entries = labels.get(kind)
        _require(path, isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries),
                 f'is not of COCO\'s format: it has no list of {kind}')
        _refuse(path, kind, [entry.get('id') for entry in entries if not _is_id(entry.get('id'))], 'have no usable id')
        counts = Counter(entry['id'] for entry in entries)
        _refuse(path, kind, [i for i, count in counts.items() if count > 1], 'have the id of others')
    sizes = {}
    for image in labels['images']:
        sizes[image['id']] = image.get('width'), image.get('height')
    for kind, is_right, what in _REQUIRED:
        _refuse(path, kind, [entry['id'] for entry in labels[kind] if not is_right(entry)], f'lack {what}')
    # Masks of images that are not listed are never loaded.
    reasons = {a['id']: _mask_trouble(a['segmentation'], *sizes[a['image_id']]) for a in labels['annotations']
               if a.get('segmentation') and a['image_id'] in sizes}
    for reason in dict.fromkeys(filter(None, reasons.values())):
        _refuse(path, 'annotations', [i for i, trouble in reasons.items() if trouble == reason], reason)
    return labels


def check_coco(labels: dict, images: str | Path, classes: Sequence[str], sample: int = 200,
               read: Callable[[str], np.ndarray | None] | None = None) -> Iterator[str]:
    """Compares annotations in COCO's format with their image files, of which it opens ``sample``, evenly spread.

    Args:
        labels: What :func:`mmreplk.mm.checks.coco_file.read_coco` returned.
        images: The folder of the images.
        classes: The names that the config trains.
        sample: How many images are opened.
        read: As in :func:`mmreplk.mm.checks.label_maps.check_segmentation`.

    Yields:
        Sentences on what is wrong: missing or unreadable files, images of another size, classes without a category,
        annotations without a mask where others have one, and what MMDetection leaves out.
    """
    sizes = {image['id']: (image['width'], image['height']) for image in labels['images']}
    paths = {os.path.join(images, image['file_name']): sizes[image['id']] for image in labels['images']}
    missing = [path for path in paths if not os.path.isfile(path)]
    yield from listed('files are missing', missing)
    unreadable, misfits = [], []
    for path in evenly_spread(sorted(paths.keys() - missing), sample):
        width, height = paths[path]
        image = (read or read_whole)(path)
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


def missing_classes(labels: dict, classes: Sequence[str]) -> Iterator[str]:
    """Yields a sentence if a class has no category: MMDetection gives its number to the next one.

    Args:
        labels: What :func:`read_coco` returned.
        classes: The names that the config trains.
    """
    known = {category['name'] for category in labels['categories']}
    yield from listed('classes of the config are not categories of the file', [c for c in classes if c not in known])


def left_out(labels: dict, classes: Sequence[str]) -> Iterator[str]:
    """Yields sentences on what MMDetection ignores, or understands in another way than it is meant.

    Args:
        labels: What :func:`read_coco` returned.
        classes: The names that the config trains.
    """
    sizes = {image['id']: (image['width'], image['height']) for image in labels['images']}
    named = {category['id']: category['name'] for category in labels['categories']}
    known = [name for name in named.values() if name in classes]
    if sorted(known) == sorted(classes) and known != list(classes):
        yield f'MMDetection numbers the classes as the file lists them, not as the config does: {known}'
    yield from listed('annotations are of images that the file does not list',
                      [a['id'] for a in labels['annotations'] if a['image_id'] not in sizes])
    yield from listed('annotations are of categories that the file does not list',
                      [a['id'] for a in labels['annotations'] if a['category_id'] not in named])
    outside, short = [], []
    for annotation in labels['annotations']:
        x, y, width, height = annotation['bbox']
        right, bottom = sizes.get(annotation['image_id'], (_LARGEST, _LARGEST))
        # Boxes are rounded to hundredths.
        if min(width, height) <= 0 or min(x, y) < -1 or x + width > right + 1 or y + height > bottom + 1:
            outside.append(annotation['id'])
        polygons = annotation.get('segmentation')
        if isinstance(polygons, list) and any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
            short.append(annotation['id'])
    used = {a['category_id'] for a in labels['annotations']}
    yield from listed('classes of the config have no annotation',
                      [name for i, name in named.items() if name in classes and i not in used] if used else [])
    yield from listed('annotations have boxes that are empty or reach out of their image', outside)
    yield from listed('annotations have polygons of less than three points, or of an odd number of coordinates', short)


def listed(what: str, items: list) -> Iterator[str]:
    """Yields one sentence that counts ``items`` and names the first of them; nothing if there are none."""
    if items:
        more = ', ...' if len(items) > LISTED else ''
        yield f'{len(items)} {what}: {", ".join(map(str, items[:LISTED]))}{more}'


def _require(path: str | Path, condition: bool, otherwise: str) -> None:
    if not condition:
        raise InputError(f'{path} {otherwise}')


def _refuse(path: str | Path, kind: str, ids: list, what: str) -> None:
    for sentence in listed(f'{kind} {what}', ids):
        raise InputError(f'{path} cannot be used: {sentence}')


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _are_numbers(values: list) -> bool:
    """Whether each is a number, without a call for each: COCO has some fifty million coordinates."""
    if not {int, float}.issuperset(map(type, values)):
        return False
    # Neither min nor max sees a NaN that is not the first; a sum does.
    return not values or (min(values) > -_LARGEST and max(values) < _LARGEST and math.isfinite(sum(values)))


def _is_id(value: object) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _is_image(image: dict) -> bool:
    return (isinstance(image.get('file_name'), str)
            and all(_is_number(image.get(side)) and image[side] >= 1 for side in ('width', 'height')))


def _has_box(annotation: dict) -> bool:
    box = annotation.get('bbox')
    return isinstance(box, list) and len(box) == 4 and _are_numbers(box)


_REQUIRED = (
    ('images', _is_image, 'a file_name, or a width and a height in pixels'),
    ('categories', lambda category: isinstance(category.get('name'), str), 'a name'),
    ('annotations', lambda annotation: _is_id(annotation.get('image_id')), 'an image_id'),
    ('annotations', lambda annotation: _is_id(annotation.get('category_id')), 'a category_id'),
    ('annotations', lambda annotation: _is_number(annotation.get('area')), 'a finite area'),
    ('annotations', _has_box, 'a bbox of four finite numbers'),
)


def _mask_trouble(mask: object, width: int, height: int) -> str | None:
    """Returns what is wrong with a mask of an image of that size."""
    if isinstance(mask, list):
        if not all(isinstance(polygon, list) and _are_numbers(polygon) for polygon in mask):
            return 'have a segmentation that is not a list of polygons, each a list of numbers'
        is_far = any(_is_far(polygon[::2], width) or _is_far(polygon[1::2], height) for polygon in mask)
        return 'have polygons that reach far out of their image' if is_far else None
    if not isinstance(mask, dict):
        return 'have a segmentation that is neither polygons nor run lengths'
    if mask.get('size') != [height, width]:
        return 'have masks of another size than their image'
    counts = mask.get('counts')
    runs = _runs(counts) if isinstance(counts, str) else counts
    is_right = isinstance(runs, list) and all(isinstance(run, int) and run >= 0 for run in runs)
    return None if is_right and sum(runs) == width * height else 'have masks whose run lengths do not fill their image'


def _is_far(coordinates: list, extent: int) -> bool:
    return bool(coordinates) and (min(coordinates) < -extent or max(coordinates) > 2 * extent)


def _runs(counts: str) -> list[int] | None:
    """Returns the run lengths that COCO's ``rleToString`` wrote; None if ``counts`` is not from it.

    It writes five bits a character and, from the fourth run on, the difference to the run two before.
    """
    runs, value, shift = [], 0, 0
    for code in counts.encode():
        code -= 48
        if not 0 <= code < 64:
            return None
        value |= (code & 0x1f) << shift
        shift += 5
        if not code & 0x20:
            if code & 0x10:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, shift = 0, 0
    return None if shift else runs
