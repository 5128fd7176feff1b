"""Finds configs and tools by name: those installed with the package, or those of the repository it is used from."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from .errors import InputError

PACKAGE = Path(__file__).resolve().parent
# Where MIM looks for them in an installed package.
INSTALLED = PACKAGE / '.mim'
ROOT = INSTALLED if INSTALLED.is_dir() else PACKAGE.parent
CONFIGS, TOOLS = ROOT / 'configs', ROOT / 'tools'
# The folders of parts of configs, and of tools for maintainers only.
_PARTS, _DEV = '_base_', 'dev'


def config_names() -> dict[str, Path]:
    """Returns the files of all configs by name, such as ``upernet_replknet31b_ade20k`` or ``guidelines/k13``."""
    return {path.relative_to(CONFIGS).with_suffix('').as_posix(): path
            for path in sorted(CONFIGS.rglob('*.py')) if _PARTS not in path.relative_to(CONFIGS).parts}


def tool_names() -> dict[str, Path]:
    """Returns the files of all tools for users by name, such as ``train`` or ``get_flops``."""
    files = sorted(TOOLS.rglob('*.py'), key=lambda path: (len(path.parts), path))
    return {path.stem: path for path in files if _DEV not in path.relative_to(TOOLS).parts}


def find_config(name: str) -> Path:
    """Returns the file of a config.

    Args:
        name: A file, or the name of a config that comes with the package, with or without ``configs/`` and ``.py``.

    Raises:
        InputError: If there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    names = config_names()
    short = name.removeprefix('configs/').removesuffix('.py')
    if short not in names:
        raise InputError(f'config {name!r} does not exist{nearest(short, names)}')
    return names[short]


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns a question that suggests the nearest of ``known``, to end a sentence with; empty if none is near."""
    meant = difflib.get_close_matches(name, list(known), 1, .8)
    return f'; did you mean {meant[0]!r}?' if meant else ''
