"""Whether a dataset on disk is what its config says."""

import inspect
import os
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from mmengine.registry import DATASETS

from ...errors import InputError
from ..data.reading import PipelineReader, pipeline_of, read_whole
from .coco_file import check_coco, read_coco
from .label_maps import ONE_CLASS, check_segmentation, classes_seen


def check_split(dataset: dict, sample: int = 200) -> tuple[int, list[str], list[str]]:
    """Checks the files of a dataset that a config describes, or of those in its wrappers.

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
            raise InputError(f'{type(built).__name__} has no get_data_info, which would tell the files of each sample')
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
    """Yields the descriptions of the datasets inside wrappers such as ``RepeatDataset`` and ``ConcatDataset``."""
    inner = dataset.get('datasets') or ([dataset['dataset']] if 'dataset' in dataset else [])
    if not inner and dataset:
        yield dataset
    for child in inner:
        yield from leaf_datasets(child)


def dataset_class(dataset: dict) -> type | None:
    """Returns the class of a dataset that a config describes, in the default scope; None if it is not registered."""
    kind = dataset.get('type')
    if isinstance(kind, str):
        with DATASETS.switch_scope_and_registry(None) as registry:
            kind = registry.get(kind)
    return kind if isinstance(kind, type) else None


def no_suffix(dataset: dict) -> Iterator[str]:
    """Yields a sentence if a folder has no file with the suffix that its dataset of MMSegmentation looks for.

    Args:
        dataset: The description of the dataset, without wrappers; the default scope must be set.
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
    """Returns the default of an argument of a class or, if it has none there, of its base classes."""
    for one in kind.__mro__:
        parameters = inspect.signature(one.__init__).parameters
        if name in parameters and parameters[name].default is not inspect.Parameter.empty:
            return parameters[name].default
    return None


def _reader(pipeline: list[dict]) -> Callable[[str], np.ndarray | None]:
    """Returns the function that reads images: Pillow's, which notices cut files, or the pipeline's if that differs."""
    reader = PipelineReader(pipeline)
    if reader.is_usual:
        return read_whole

    def read(path: str) -> np.ndarray | None:
        try:
            return reader(path)
        except InputError:
            return None

    return read
