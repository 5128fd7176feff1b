"""Says what is installed and what this machine can use: the first lines of a bug report."""

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator, Sequence

import torch

from . import shipped
from .ops import backends
from .ops.cpu import compiled, facts
from .ops.tuning import processor
from .version import __version__

PACKAGES = ('torch', 'triton', 'numpy', 'mmengine', 'mmcv', 'mmseg', 'mmdet', 'timm')


def describe() -> str:
    """Returns versions, machine, backends and folders, one a line; a line that cannot be found out says why."""
    rows = [(title, _told(line)) for title, line in _lines()]
    width = max(len(title) for title, _ in rows)
    return '\n'.join(f'{title:{width}}  {text}' for title, text in rows)


def _lines() -> Iterator[tuple[str, Callable[[], str]]]:
    yield 'mmreplk', lambda: f'{__version__}, in {shipped.PACKAGE}'
    yield 'Python', lambda: f'{platform.python_version()}, {sys.executable}'
    yield 'system', platform.platform
    yield 'processor', _processor
    yield 'GPU', _gpu
    owners = _owners()
    for name in PACKAGES:
        yield name, lambda name=name: _package(name, owners.get(name, ()))
    found = {}
    try:
        found = backends()
    except Exception as error:  # a driver can fail in any way
        yield 'backends', lambda error=error: _failure(error)
    for name, reason in found.items():
        yield f'backend {name}', lambda reason=reason: 'yes' if reason is None else f'no: {reason}'
    yield 'compiled for this CPU', lambda: 'yes' if compiled.problem() is None else f'no: {compiled.problem()}'
    yield 'configs', lambda: f'{len(shipped.config_names())} in {shipped.CONFIGS}'
    yield 'tools', lambda: f'{len(shipped.tool_names())} in {shipped.TOOLS}'


def _told(line: Callable[[], str]) -> str:
    try:
        return line()
    except Exception as error:  # a report of what is broken must not break
        return _failure(error)


def _failure(error: Exception) -> str:
    return f'{type(error).__name__}: {error}'.splitlines()[0]


def _processor() -> str:
    extras = [name for name, is_there in (('bfloat16', facts.HAS_BFLOAT16), ('AMX', facts.HAS_AMX)) if is_there]
    with_extras = f' with {" and ".join(extras)}' if extras else ''
    return f'{processor()}{with_extras}; cores: {os.cpu_count()}, PyTorch threads: {torch.get_num_threads()}'


def _gpu() -> str:
    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        return f'none that PyTorch can use; it is built {f"for {built}" if built else "for CPUs only"}'
    gpus = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return '; '.join(f'{gpu.name}, compute capability {gpu.major}.{gpu.minor}, {gpu.total_memory / 2**30:.0f} GiB'
                     for gpu in gpus)


def _owners() -> dict[str, list[str]]:
    try:
        return {name: sorted({*owners}) for name, owners in importlib.metadata.packages_distributions().items()}
    except Exception:  # a damaged installation; the lines of the packages say that they have no version
        return {}


def _package(name: str, owners: Sequence[str]) -> str:
    """Returns the version of the package imported as ``name``, with the names that it was installed under."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return 'not installed'
    versions = [f'{owner} {importlib.metadata.version(owner)}' for owner in owners]
    found = ' and '.join(versions) or f'without a version, in {spec.origin}'
    return found.removeprefix(f'{name} ') + (_mmcv_operators() if name == 'mmcv' else '')


def _mmcv_operators() -> str:
    if importlib.util.find_spec('mmcv._ext') is None:
        return ', without compiled operators'
    try:
        importlib.import_module('mmcv._ext')
    except ImportError as error:  # it was compiled for another PyTorch
        return f', whose compiled operators do not load: {_failure(error)}'
    return ', with compiled operators'
