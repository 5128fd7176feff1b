"""Whether a model tells as many classes apart as its data have."""

from collections.abc import Iterator

from mmengine.config import Config

from ...errors import InputError
from ..kinds import listed_parts
from .dataset import dataset_class, leaf_datasets

_HEADS = ('decode_head', 'auxiliary_head', 'bbox_head', 'mask_head', 'roi_head.bbox_head', 'roi_head.mask_head')


def check_classes(cfg: Config, *dataloaders: str) -> None:
    """Compares the ``num_classes`` of a segmentor's or a detector's heads with the classes of the data.

    A model with more outputs than classes trains, and nothing else notices. Models that read the names of the classes,
    and datasets that do not list theirs, are skipped, as is panoptic segmentation, whose heads share the classes.

    Args:
        cfg: The config; the default scope must be set.
        dataloaders: Keys of the dataloaders whose datasets are compared.

    Raises:
        InputError: With the key, its value, and the classes.
    """
    model = cfg.model.get('module', cfg.model)  # test-time augmentation wraps the model
    if 'language_model' in model or 'panoptic_fusion_head' in model:
        return
    counts = list(_counts(model))
    for name in dataloaders:
        for dataset in leaf_datasets((cfg.get(name) or {}).get('dataset') or {}):
            classes = _classes(dataset)
            for key, given in counts if classes else ():
                if given != len(classes):
                    shown = ', '.join(map(str, classes[:4])) + (', ...' if len(classes) > 4 else '')
                    raise InputError(f'{key} must be {len(classes)}, the number of classes of {name}.dataset '
                                     f'({shown}), got {given!r}')


def _counts(model: dict) -> Iterator[tuple[str, object]]:
    """Yields the key and the value of the ``num_classes`` of every head that tells the classes of the data apart."""
    for name in _HEADS:
        node = model
        for part in name.split('.'):
            node = node.get(part) if isinstance(node, dict) else None
        for i, head in enumerate(listed_parts(node)):
            if isinstance(head, dict) and 'num_classes' in head:
                yield f'model.{name}{f".{i}" if isinstance(node, (list, tuple)) else ""}.num_classes', head.num_classes


def _classes(dataset: dict) -> list | tuple | None:
    """Returns the names of the classes of a dataset; None if it does not list them."""
    own = (dataset.get('metainfo') or {}).get('classes')
    classes = own or (getattr(dataset_class(dataset), 'METAINFO', None) or {}).get('classes')
    return classes if isinstance(classes, (list, tuple)) else None
