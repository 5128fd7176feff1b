"""What a node of a config says it is."""

from collections.abc import Mapping


def kind_of(described: object) -> str:
    """Returns the name of the class in the ``type`` of a node of a config, without the scope or modules before it.

    Text configs name the class, with or without a scope (``'mmdet.CocoDataset'``); pure-Python configs hold it.

    Args:
        described: The node. If it is not a dict or has no ``type``, the answer is ``''``.
    """
    kind = described.get('type') if isinstance(described, Mapping) else None
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2]


def listed_parts(described: object) -> list:
    """Returns as a list what a config may give alone or as a list, such as an evaluator or an ``init_cfg``."""
    if described is None:
        return []
    return list(described) if isinstance(described, (list, tuple)) else [described]


def only_writes(evaluator: object) -> bool:
    """Says whether an evaluator, or each of several, only writes predictions to be submitted and needs no labels."""
    parts = listed_parts(evaluator)
    return bool(parts) and all(isinstance(part, dict) and part.get('format_only', False) for part in parts)


def is_pretrained(init_cfg: object) -> bool:
    """Says whether an ``init_cfg`` reads a checkpoint; the class ``PretrainedInit`` is registered as ``Pretrained``."""
    return kind_of(init_cfg) in ('Pretrained', 'PretrainedInit')
