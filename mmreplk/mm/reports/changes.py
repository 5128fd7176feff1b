"""What a config says that what it inherits does not."""

import ast
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

ABSENT = '(absent)'


class Change(NamedTuple):
    key: str  # dotted, as --cfg-options takes it
    before: str
    after: str


def config_changes(trained: Config, source: str | Path) -> list[Change]:
    """Compares what was trained with what its config file inherits by ``_base_``.

    Args:
        trained: The config of a run, as MMEngine wrote it out.
        source: The file that it came from.

    Returns:
        What that file, ``--cfg-options`` and the machine changed, in the order of the keys.
    """
    before, after = dict(_flatten(_inherited(Path(source)))), dict(_flatten(trained.to_dict()))
    return [Change(key, before.get(key, ABSENT), after.get(key, ABSENT))
            for key in sorted(before.keys() | after.keys())
            if before.get(key, ABSENT) != after.get(key, ABSENT)]  # yapf: disable


def _inherited(source: Path) -> dict:
    assigned = {target.id: node.value for node in ast.parse(source.read_text()).body if isinstance(node, ast.Assign)
                for target in node.targets if isinstance(target, ast.Name)}  # yapf: disable
    bases = ast.literal_eval(assigned['_base_']) if '_base_' in assigned else []
    # Of an installed framework, 'mmseg::...', or beside the file.
    paths = [base if '::' in base else str((source.parent / base).resolve())
             for base in ([bases] if isinstance(bases, str) else bases)]  # yapf: disable
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'inherited.py')
        file.write_text(f'_base_ = {paths!r}')
        return Config.fromfile(file).to_dict()


def _flatten(node: object, prefix: str = '') -> Iterator[tuple[str, str]]:
    """Yields values by dotted key; lists of dicts are entered, other lists are values."""
    if isinstance(node, dict) and (node or not prefix):
        children = node.items()
    elif isinstance(node, (list, tuple)) and any(isinstance(child, dict) for child in node):
        children = enumerate(node)
    else:
        yield prefix, repr(list(node) if isinstance(node, tuple) else node)
        return
    for key, child in children:
        yield from _flatten(child, f'{prefix}.{key}' if prefix else str(key))
