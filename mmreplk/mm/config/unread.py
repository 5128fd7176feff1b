"""Values of a config that nothing reads: variables that only the config file itself could have used, and did not."""

import ast
import inspect
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from ..checks.values import nodes
from ..kinds import kind_of, listed_parts

# What MMEngine's runner, MMSegmentation, MMDetection, MMPretrain and this package read at the top of a config.
READ = {
    *inspect.signature(Runner).parameters, 'runner_type', 'custom_imports', 'env_cfg', 'auto_scale_lr', 'strategy',
    'model_wrapper_cfg', 'find_unused_parameters', 'compile', 'activation_checkpointing', 'efficient_conv_bn_eval',
    'data_preprocessor', 'tta_model', 'tta_pipeline', 'data_hint', 'data_counts', 'published', 'rehearsal'
}


def unread_names(path: str | Path) -> Iterator[str]:
    """Yields a sentence for every name that a config file or one of its bases sets and nothing reads.

    Such a name, say ``train_pipeline`` or ``img_suffix``, has an effect only if the file that sets it, or one that
    builds on it, uses it. A child that sets a variable of its base again does not change what the base made of it.
    Files without a base are skipped: those that a run writes hold all names of all files.

    Args:
        path: The config file, as text or in pure Python.
    """
    for file, used in _chain(Path(path)):
        for name in _assigned(file) if _bases(file) else ():
            if name not in READ and name not in used:
                yield (f'{file} sets {name!r}, which changes nothing: nothing after it uses the name, and what a base '
                       'made of its own value stays')


def unread_options(cfg: Config, overrides: Mapping) -> Iterator[str]:
    """Yields a sentence for every key of ``--cfg-options`` that is only a variable of the config file.

    Args:
        cfg: The config before the overrides.
        overrides: Values by dotted key.
    """
    for key in overrides:
        name = key.partition('.')[0]
        if name in READ or name not in cfg:
            continue
        values = (cfg[name], dict(cfg[name])) if isinstance(cfg[name], dict) else (cfg[name], )
        places = [path for path, value in nodes(cfg.to_dict())
                  if path.partition('.')[0] in READ and _is_same(value, values)]
        meant = f'; its value is now in {", ".join(places[:4])}' if places else ''
        yield f'{key} changes nothing: {name} is a variable of the config file, which was read before{meant}'


def replaced_hooks(cfg: Config, before: list | None) -> list[str]:
    """Returns the kinds of custom hooks that the config's list replaced instead of adding to them.

    Args:
        cfg: The config as it is now.
        before: ``custom_hooks`` of its bases, or before the overrides.
    """
    kept = {kind_of(hook) for hook in cfg.get('custom_hooks') or []}
    return [kind for kind in map(kind_of, before or []) if kind not in kept]


def hooks_of_bases(path: str | Path) -> list:
    """Returns the custom hooks that the bases of a config file have, if it sets its own."""
    found = []
    for base in _bases(Path(path)) if 'custom_hooks' in _assigned(Path(path)) else ():
        found += Config.fromfile(base, import_custom_modules=False).get('custom_hooks') or []
    return found


def _is_same(value: object, values: tuple) -> bool:
    return any(type(value) is type(one) and value == one for one in values) and value not in (None, True, False)


def _chain(path: Path, used: frozenset[str] = frozenset()) -> Iterator[tuple[Path, frozenset[str]]]:
    """Yields a config file and its bases, each with the names that it and those above it use."""
    used |= _used(path)
    yield path, used
    for base in _bases(path):
        yield from _chain(base, used)


def _tree(path: Path) -> ast.Module:
    return _parsed(path.read_text()) if path.suffix == '.py' else ast.Module([], [])


@lru_cache(maxsize=16)  # of a config and its bases, each of which is asked for four times
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _bases(path: Path) -> list[Path]:
    """Returns the Python files that a config file is based on, except those that it names inside packages."""
    names = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Assign) and any(getattr(target, 'id', '') == '_base_' for target in node.targets):
            names += listed_parts(ast.literal_eval(node.value))
        elif isinstance(node, ast.ImportFrom) and node.level:
            names.append('../' * (node.level - 1) + (node.module or '').replace('.', '/') + '.py')
    found = [path.parent / name for name in names if '::' not in name and '://' not in name]
    return [file for file in found if file.suffix == '.py' and file.is_file()]


def _assigned(path: Path) -> list[str]:
    """Returns the variables that a file sets at its top level, except private ones."""
    targets = [target for node in _tree(path).body if isinstance(node, (ast.Assign, ast.AnnAssign))
               for target in (node.targets if isinstance(node, ast.Assign) else [node.target])]
    names = [name.id for target in targets for name in ast.walk(target)
             if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)]
    return [name for name in dict.fromkeys(names) if not name.startswith('_')]


def _used(path: Path) -> frozenset[str]:
    """Returns the names that a file reads, its own and those of its base (``_base_.name``)."""
    found = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and getattr(node.value, 'id', '') == '_base_':
            found.add(node.attr)
    return frozenset(found)
