"""The numbers that stand for categories in annotations in COCO's format."""

from collections.abc import Sequence

# COCO's own: 80 of the numbers up to 90.
COCO_IDS = tuple(sorted({*range(1, 91)} - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}))


def category_ids(dataset: object) -> list[int] | None:
    """Returns the number of each class in the annotation file of a dataset, or of the first dataset in a wrapper.

    Args:
        dataset: A dataset that has been read; without an annotation file in COCO's format, the answer is None.
    """
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    if inner[0] is not None:
        return category_ids(inner[0])
    ids = getattr(dataset, 'cat_ids', None)
    return list(ids) if isinstance(ids, (list, tuple)) and ids else None


def ids_of_classes(labels: dict, classes: Sequence[str]) -> list[int] | None:
    """Returns the numbers of ``classes`` in the order in which MMDetection counts the classes: that of the file.

    Args:
        labels: The contents of an annotation file.
        classes: The names that a model was trained with.

    Returns:
        One for each class; None if the file lacks any of them.
    """
    ids = [category['id'] for category in labels['categories'] if category['name'] in classes]
    return ids if len(ids) == len(classes) else None
