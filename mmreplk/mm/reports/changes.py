"""What a config changes in what it inherits."""

import ast
import importlib.util
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from ..kinds import kind_of

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
            if before.get(key, ABSENT) != after.get(key, ABSENT)]


def _inherited(source: Path) -> dict:
    body = ast.parse(source.read_text()).body
    read = [line for node in body if isinstance(node, ast.With) and _is_read_base(node) for line in node.body]
    if read:
        paths = [str(_imported(line, source)) for line in read if isinstance(line, ast.ImportFrom)]
        return {key: value for path in paths for key, value in Config.fromfile(path).to_dict().items()}
    assigned = {target.id: node.value for node in body if isinstance(node, ast.Assign)
                for target in node.targets if isinstance(target, ast.Name)}
    bases = ast.literal_eval(assigned['_base_']) if '_base_' in assigned else []
    # From an installed framework, 'mmseg::...', or beside the file.
    paths = [base if '::' in base else str((source.parent / base).resolve())
             for base in ([bases] if isinstance(bases, str) else bases)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'inherited.py')
        file.write_text(f'_base_ = {paths!r}')
        return Config.fromfile(file).to_dict()


def _is_read_base(node: ast.With) -> bool:
    call = node.items[0].context_expr
    return isinstance(call, ast.Call) and getattr(call.func, 'id', getattr(call.func, 'attr', None)) == 'read_base'


def _imported(line: ast.ImportFrom, source: Path) -> Path:
    """Returns the file that ``from ... import *`` in a pure-Python config means."""
    parts = (line.module or '').split('.')
    if line.level:
        return source.parent.joinpath(*['..'] * (line.level - 1), *parts).with_suffix('.py').resolve()
    package = importlib.util.find_spec(parts[0])  # of an installed framework, whose config folders are not packages
    return Path(package.origin).parent.joinpath(*parts[1:]).with_suffix('.py')


def _flatten(node: object, prefix: str = '') -> Iterator[tuple[str, str]]:
    """Yields values by dotted key; lists of dicts are entered, other lists are values, classes are their names."""
    if isinstance(node, dict) and (node or not prefix):
        children = node.items()
    elif isinstance(node, (list, tuple)) and any(isinstance(child, dict) for child in node):
        children = enumerate(node)
    elif prefix.rpartition('.')[2] == 'type':
        yield prefix, repr(kind_of(dict(type=node)) or node)
        return
    else:
        yield prefix, repr(_plain(node))
        return
    for key, child in children:
        yield from _flatten(child, f'{prefix}.{key}' if prefix else str(key))


def _plain(node: object) -> object:
    """Makes equal what means the same: tuples and lists, at any depth, and dicts whatever the order of their keys."""
    if isinstance(node, dict):
        return {key: _plain(node[key]) for key in sorted(node, key=str)}
    return [_plain(child) for child in node] if isinstance(node, (list, tuple)) else node
