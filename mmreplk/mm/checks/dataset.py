"""Whether a dataset on disk is what a config takes it for."""

import inspect
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from mmengine.registry import DATASETS
from PIL import Image, ImageOps

from ...errors import InputError
from ...spread import evenly_spread
from ..data.reading import PipelineReader, pipeline_of
from .coco_file import LISTED, left_out, listed, missing_classes, read_coco

IGNORED = 255
ONE_CLASS = 'the only class is'
UNREADABLE = 'files cannot be read as pictures'


def check_split(dataset: dict, sample: int = 200) -> tuple[int, list[str], list[str]]:
    """Looks at a dataset that a config describes, and at those in its wrappers.

    Args:
        dataset: The ``dataset`` of a dataloader; the default scope must be set.
        sample: How many images of each dataset are opened, evenly spread.

    Returns:
        The number of images, what is wrong with them, and what else is worth knowing.

    Raises:
        InputError: If a dataset cannot be asked for its files.
    """
    count, problems, notes = 0, [], []
    for part in leaf_datasets(dataset):
        built = DATASETS.build(dict(part, lazy_init=True))
        read = _reader(pipeline_of(part))
        if not hasattr(built, 'get_data_info'):
            raise InputError(f'{type(built).__name__} has no get_data_info, by which a dataset says what its files are')
        if str(getattr(built, 'ann_file', None) or '').endswith('.json') and 'img' in (built.data_prefix or {}):
            try:
                labels = read_coco(built.ann_file, labelled=False)
            except InputError as error:
                problems.append(str(error))
                continue
            if not labels['annotations']:
                notes.append(f'{built.ann_file} has no annotations')
            problems += check_coco(labels, built.data_prefix['img'], built.metainfo['classes'], sample, read)
            count += len(labels['images'])
            continue
        built.full_init()
        found = list(check_segmentation(built, sample, read))
        problems += found
        seen = list(classes_seen(built, sample)) if not found else []
        (problems if any(ONE_CLASS in sentence for sentence in seen) else notes).extend(seen)
        if not any(built.get_data_info(i).get('seg_map_path') for i in range(min(1, len(built)))):
            notes.append('there are no label maps')
        count += len(built)
    return count, problems, notes


def leaf_datasets(dataset: dict) -> Iterator[dict]:
    """Yields what describes the datasets inside wrappers such as ``RepeatDataset`` and ``ConcatDataset``."""
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else [])
    if not inner and dataset:
        yield dataset
    for child in inner:
        yield from leaf_datasets(child)


def dataset_class(dataset: dict) -> type | None:
    """Returns the class of a dataset that a config describes, in the default scope; None if nobody knows it."""
    kind = dataset.get('type')
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    return kind if isinstance(kind, type) else None


def check_segmentation(dataset: Sequence, sample: int = 200,
                       read: Callable[[str], np.ndarray | None] | None = None) -> Iterator[str]:
    """Looks for every file of a dataset of MMSegmentation, and into ``sample`` of them, evenly spread.

    Args:
        dataset: The dataset, as the config builds it; of one without label maps, the images are looked at.
        sample: How many images are opened with their label maps.
        read: Returns the image of a file, None of one that is none; None for what Pillow makes of it.

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
    for info in evenly_spread(present, sample):
        image, labels = (one(info[key]) if info.get(key) else None for one, key in zip((read or _read, _read), kinds,
                                                                                       strict=True))
        unread = [info[key] for key, read in zip(kinds, (image, labels), strict=True) if info.get(key) and read is None]
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
    """Yields sentences on label maps that mean something else than their classes, with the shares of those seen.

    Masks of 0 and 255, where 255 is ignored, or labels counted from 1 train a network on one class, or on the wrong
    ones, and nothing else notices.

    Args:
        dataset: A dataset, or datasets in wrappers; only those with label maps are looked at.
        sample: How many label maps are read, evenly spread. That a class is in none of them is said if these are all,
            or if it is class 0.
    """
    for child in _inside(dataset):
        yield from classes_seen(child, sample)
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()
    if _inside(dataset) or len(names) < 2 or not hasattr(dataset, 'get_data_info') or not len(dataset):
        return
    trained, stored, read = Counter(), Counter(), 0
    for i in evenly_spread(range(len(dataset)), sample):
        info = dataset.get_data_info(i)
        labels = _read(info['seg_map_path']) if _is_of_its_image(info) else None
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
               + (': masks of 0 and 255 must be made masks of 0 and 1' if set(stored) == {0, IGNORED} else ''))
    elif unseen and (read == len(dataset) or 0 not in seen):
        more = ', ...' if len(unseen) > LISTED else ''
        is_from_1 = 0 not in seen and min(stored) == 1
        hint = '; are labels counted from 1? They are to be counted from 0' if is_from_1 else ''
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
    """Yields a sentence if there are label maps whose images are missing, which MMSegmentation passes over.

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


def no_suffix(dataset: dict) -> Iterator[str]:
    """Yields a sentence if a folder has no file that ends as its dataset of MMSegmentation says.

    Args:
        dataset: What describes the dataset, without wrappers; the default scope must be set.
    """
    kind = dataset_class(dataset)
    root, prefixes = dataset.get('data_root') or '', dataset.get('data_prefix') or {}
    if dataset.get('ann_file') or kind is None:
        return
    for folder_key, key in (('img_path', 'img_suffix'), ('seg_map_path', 'seg_map_suffix')):
        suffix = dataset.get(key) or _default(kind, key)
        folder = os.path.join(root, prefixes.get(folder_key) or '')
        if not isinstance(suffix, str) or not prefixes.get(folder_key) or not os.path.isdir(folder):
            continue
        found = Counter()
        for _, _, names in os.walk(folder, followlinks=True):
            if any(name.endswith(suffix) for name in names):
                break
            found.update(os.path.splitext(name)[1] for name in names)
        else:
            common = found.most_common(1)[0][0] if found else ''
            hint = f'; {found[common]} end in {common!r}: then the dataset needs {key}={common!r}' if common else ''
            yield f'no file in {os.path.abspath(folder)!r} ends in {suffix!r}{hint}'


def _default(kind: type, name: str) -> object:
    """Returns the default of an argument of a class, or of the classes that it passes it on to."""
    for one in kind.__mro__:
        parameters = inspect.signature(one.__init__).parameters
        if name in parameters and parameters[name].default is not inspect.Parameter.empty:
            return parameters[name].default
    return None


def check_coco(labels: dict, images: str | Path, classes: Sequence[str], sample: int = 200,
               read: Callable[[str], np.ndarray | None] | None = None) -> Iterator[str]:
    """Compares annotations in COCO's format with the images beside them, and looks into ``sample``, evenly spread.

    Args:
        labels: What :func:`mmreplk.mm.checks.coco_file.read_coco` returned.
        images: The folder of the images.
        classes: The names that the config trains.
        sample: How many images are opened.
        read: As of :func:`check_segmentation`.

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
        image = (read or _read)(path)
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


def _inside(dataset: Sequence) -> list:
    """Returns the datasets that a wrapper has."""
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    return [child for child in inner if child is not None]


def _reader(pipeline: list[dict]) -> Callable[[str], np.ndarray | None]:
    """Returns what reads images: Pillow, which notices what is cut short, or the pipeline if that reads otherwise."""
    reader = PipelineReader(pipeline)
    if reader.is_usual:
        return _read

    def read(path: str) -> np.ndarray | None:
        try:
            return reader(path)
        except InputError:
            return None

    return read


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


def _read(path: str) -> np.ndarray | None:
    """Returns a picture as it is to be seen, or None if it is not a file or cannot be read to its end."""
    if not os.path.isfile(path):  # a named pipe would be waited for
        return None
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            return np.asarray(ImageOps.exif_transpose(image))
    # What Pillow raises for damaged files, and for those of more pixels than it takes, as loading them would.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
