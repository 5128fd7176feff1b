"""Whether label maps mean what their dataset says."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from ...spread import evenly_spread
from ..data.reading import read_whole
from .coco_file import LISTED, UNREADABLE, listed

IGNORED = 255
ONE_CLASS = 'the only class is'


def check_segmentation(dataset: Sequence, sample: int = 200,
                       read: Callable[[str], np.ndarray | None] | None = None) -> Iterator[str]:
    """Checks that all files of a dataset of MMSegmentation exist, and opens ``sample`` of them, evenly spread.

    Args:
        dataset: The dataset, as the config builds it; if it has no label maps, its images alone are checked.
        sample: How many images are opened with their label maps.
        read: Returns the image in a file, or None if it cannot be read as one; None to read with Pillow.

    Yields:
        Sentences on what is wrong: missing or unreadable files, label maps of another size, labels that no class has.
    """
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    kinds = ('img_path', 'seg_map_path')
    paths = [info[key] for info in infos for key in kinds if info.get(key)]
    missing = {path for path in paths if not os.path.isfile(path)}
    yield from listed('files are missing', [path for path in paths if path in missing])
    yield from without_images(dataset)
    classes = len(dataset.metainfo.get('classes') or ())
    unreadable, misfits, strange, known = [], [], {}, (0, classes - 1)
    present = [info for info in infos if missing.isdisjoint([info.get(key) for key in kinds])]
    reads = dict(img_path=read or read_whole, seg_map_path=read_whole)
    for info in evenly_spread(present, sample):
        pictures = {key: reads[key](info[key]) for key in kinds if info.get(key)}
        image, labels = (pictures.get(key) for key in kinds)
        unread = [info[key] for key, picture in pictures.items() if picture is None]
        unreadable += unread
        if unread or labels is None or image is None:
            continue
        if labels.shape != image.shape[:2]:
            misfits.append(f'{info["seg_map_path"]} {labels.shape} for {image.shape[:2]}')
        values = np.unique(labels)
        known = _labels_of_files(info, classes)
        wrong = values[(_trained(values, info) >= classes) & (_trained(values, info) != IGNORED)]
        if classes and len(wrong):
            strange[info['seg_map_path']] = wrong.tolist()[:LISTED]
    yield from listed(UNREADABLE, unreadable)
    yield from listed('label maps are not of the size of their image (height, width[, channels])', misfits)
    yield from listed(f'label maps hold labels other than {known[0]} to {known[1]} and {IGNORED}',
                      [f'{path} has {values}' for path, values in strange.items()])


def classes_seen(dataset: Sequence, sample: int = 20) -> Iterator[str]:
    """Yields a sentence if label maps seem to mean something else than the classes, with the shares of the pixels.

    Masks of 0 and 255, where 255 is ignored, or labels counted from 1 train a network on one class, or on the wrong
    ones, and nothing else notices.

    Args:
        dataset: A dataset, or datasets in wrappers; only those with label maps are looked at.
        sample: How many label maps are read, evenly spread. Classes that are in none of them are reported only if these
            are all label maps, or if class 0 is among those classes.
    """
    for child in _inside(dataset):
        yield from classes_seen(child, sample)
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()
    if _inside(dataset) or len(names) < 2 or not hasattr(dataset, 'get_data_info') or not len(dataset):
        return
    trained, stored, read = Counter(), Counter(), 0
    for i in evenly_spread(range(len(dataset)), sample):
        info = dataset.get_data_info(i)
        labels = read_whole(info['seg_map_path']) if _is_of_its_image(info) else None
        if labels is None or labels.ndim != 2:
            continue
        values, counts = np.unique(labels, return_counts=True)
        stored.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        for label, count in zip(_trained(values, info).tolist(), counts.tolist(), strict=True):
            trained[label] += count
        read += 1
    if not read:
        return
    seen = [label for label in range(len(names)) if trained[label]]
    unseen = [name for label, name in enumerate(names) if not trained[label]]
    total = sum(stored.values())
    if len(seen) < 2:
        what = f'{names[seen[0]]!r} ({seen[0]})' if seen else 'none'
        yield (f'in {read} label maps {ONE_CLASS} {what}; the files hold {_shares(stored, total)}. {IGNORED} is ignored'
               + (', and so is 0, by reduce_zero_label' if getattr(dataset, 'reduce_zero_label', False) else '')
               + (': masks of 0 and 255 must become masks of 0 and 1' if set(stored) == {0, IGNORED} else ''))
    elif unseen and (read == len(dataset) or 0 not in seen):
        more = ', ...' if len(unseen) > LISTED else ''
        is_from_1 = 0 not in seen and min(stored) == 1
        hint = '; are labels counted from 1? They must be counted from 0' if is_from_1 else ''
        shares = _shares(Counter({names[label]: trained[label] for label in seen}), total)
        yield (f'{len(unseen)} of {len(names)} classes are in none of {read} label maps: '
               f'{", ".join(unseen[:LISTED])}{more}{hint}. The pixels are {shares}')


def _shares(counts: Counter, total: int) -> str:
    shown = ', '.join(f'{name} {count / total:.1%}' for name, count in counts.most_common(8))
    return shown + (', ...' if len(counts) > 8 else '')


def _trained(values: np.ndarray, info: dict) -> np.ndarray:
    """Returns what MMSegmentation's ``LoadAnnotations`` makes of the labels in a file."""
    labels = values.astype(np.int64)
    if info.get('reduce_zero_label'):
        labels = np.where((labels == 0) | (labels == IGNORED), IGNORED, labels - 1)
    return np.array([(info.get('label_map') or {}).get(label, label) for label in labels.tolist()], np.int64)


def _labels_of_files(info: dict, classes: int) -> tuple[int, int]:
    """Returns the least and the largest label of a class in the files: where zero means unlabelled, they begin at 1."""
    first = int(bool(info.get('reduce_zero_label')))
    return first, first + len(info.get('label_map') or range(classes)) - 1


def without_images(dataset: Sequence) -> Iterator[str]:
    """Yields a sentence if there are label maps whose images are missing, which MMSegmentation ignores.

    Args:
        dataset: A dataset, or datasets in wrappers; only those of MMSegmentation without a list of images are compared.
    """
    for child in _inside(dataset):
        yield from without_images(child)
    folder = (getattr(dataset, 'data_prefix', None) or {}).get('seg_map_path')
    suffix = getattr(dataset, 'seg_map_suffix', None)
    if not folder or not suffix or os.path.isfile(dataset.ann_file) or not os.path.isdir(folder):
        return
    maps = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names if name.endswith(suffix)]
    if len(maps) > len(dataset):
        used = {os.path.normpath(dataset.get_data_info(i)['seg_map_path']) for i in range(len(dataset))}
        yield from listed('label maps have no image and are left out', sorted({*map(os.path.normpath, maps)} - used))


def _inside(dataset: Sequence) -> list:
    """Returns the datasets that a wrapper has."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [child for child in inner if child is not None]


def _is_of_its_image(info: dict) -> bool:
    """Says whether there is a label map of as many pixels as its image, by the headers of both."""
    pixels, paths = set(), [info.get(key) for key in ('img_path', 'seg_map_path')]
    for path in (path for path in paths if path and os.path.isfile(path)):
        try:
            with warnings.catch_warnings(), Image.open(path) as image:
                warnings.simplefilter('ignore', Image.DecompressionBombWarning)
                pixels.add(image.width * image.height)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # an image may be of a format that its own loader knows
    return bool(paths[1]) and len(pixels) < 2
