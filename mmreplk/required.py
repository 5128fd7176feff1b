"""Checks that PyTorch is new enough, before anything that uses it is imported, and finds out whether Triton is."""

import importlib.util
from importlib.metadata import PackageNotFoundError, version

import torch

# The first that has everything used here; the newest of it is torch.compiler.is_exporting.
LEAST_TORCH = (2, 7)
# The first that the kernels have been tested with.
LEAST_TRITON = (3, 6)


def why_too_old(name: str, found: str, least: tuple[int, int]) -> str | None:
    """Returns what is wrong with version ``found``, None if it is at least ``least``."""
    if tuple(int(part) for part in found.split('.')[:2]) >= least:
        return None
    return f'mmreplk needs {name} {".".join(map(str, least))} or newer, got {found}'


def _triton_problem() -> str | None:
    if importlib.util.find_spec('triton') is None:
        return 'Triton is not installed'
    try:
        return why_too_old('Triton', version('triton'), LEAST_TRITON)
    except PackageNotFoundError:  # installed under another name, with other version numbers
        return None


# Why Triton cannot be used; None if it can. Found out here because torch.compile cannot trace the search.
TRITON_PROBLEM = _triton_problem()

if (problem := why_too_old('PyTorch', torch.__version__, LEAST_TORCH)) is not None:
    raise ImportError(problem)
