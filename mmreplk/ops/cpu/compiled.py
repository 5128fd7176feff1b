"""The C++ files of this package, compiled for this processor at its first use and kept in the cache's folder.

They need GCC: ``$CXX``, ``g++`` or ``c++``. Where they cannot be compiled or loaded, a line is logged, and the other
ways of computing remain.
"""

import ctypes
import functools
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from .. import tuning
from . import facts

SOURCE = Path(__file__).with_name('depthwise') / 'depthwise.cpp'  # which includes the headers beside it
# Without moving what is the same in a loop out of it: GCC 12 then keeps the sums in registers.
FLAGS = ('-O3', '-fno-tree-loop-im', '-std=c++17', '-fPIC', '-fopenmp', '-mfma')
INSTRUCTIONS = {
    'AVX2': ('-mavx2', ),
    'AVX512': ('-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mprefer-vector-width=512'),
}
PATIENCE = 120  # seconds that the compiler may take; it takes eight


def library() -> ctypes.CDLL | None:
    """Returns the compiled functions; None where they do not work, which is logged once."""
    return _library()[0]


def problem() -> str | None:
    """Returns why there are no compiled functions; None if there are."""
    return _library()[1]


@functools.cache
def _library() -> tuple[ctypes.CDLL | None, str | None]:
    if not facts.IS_SUPPORTED:
        return None, 'it needs an x86 CPU with AVX2 and oneDNN'
    try:
        return _made(), None
    except (OSError, AttributeError, subprocess.SubprocessError, _CannotCompile) as error:
        reason = f'{type(error).__name__.lstrip("_")}: {error}'.splitlines()[0]
        logging.getLogger('mmreplk').warning(
            f'depthwise convolutions are slower on this CPU than they could be: {SOURCE} cannot be compiled: {reason}')
        return None, reason


class _CannotCompile(Exception):
    """There is no compiler, or it refuses the file."""


def _made() -> ctypes.CDLL:
    """Returns the library from the cache's folder, where it puts it if it is not there."""
    compiler, flags = _compiler(), [*FLAGS, *INSTRUCTIONS[facts.INSTRUCTIONS]]
    if facts.INSTRUCTIONS == 'AVX512' and facts.HAS_BFLOAT16:
        flags.append('-mavx512bf16')
    files = [file.read_bytes() for file in sorted(SOURCE.parent.glob('*.*'))]
    key = hashlib.sha256(b'\0'.join([*files, *map(str.encode, [*compiler, *flags])])).hexdigest()[:16]
    path = tuning.folder() / f'depthwise_{key}.so'
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tuning.locked(path):
                if not path.exists():
                    _compile(compiler, flags, path)
        return _loaded(path)
    except OSError:  # the folder cannot be written, or what is there is broken: for this process alone
        with tempfile.TemporaryDirectory() as folder:  # the system keeps a loaded file until the process ends
            path = Path(folder) / path.name
            _compile(compiler, flags, path)
            return _loaded(path)


def _compiler() -> list[str]:
    """Returns the command, with arguments that the user's has, such as ``ccache g++``."""
    named = shlex.split(os.environ.get('CXX', ''))
    commands = [named] if named else [['g++'], ['c++']]
    for name, *arguments in commands:
        if found := shutil.which(name):
            return [found, *arguments]
    raise _CannotCompile(f'there is no {" or ".join(command[0] for command in commands)}')


def _compile(compiler: list[str], flags: list[str], path: Path) -> None:
    """Compiles in two steps: linked without -fopenmp, the functions share PyTorch's threads."""
    logging.getLogger('mmreplk').info('compiling the convolutions for this CPU, once: some seconds')
    with tempfile.TemporaryDirectory(dir=path.parent, prefix='compiling') as folder:
        parts = str(Path(folder) / 'depthwise.o'), str(Path(folder) / path.name)
        for command in ([*compiler, *flags, '-c', str(SOURCE), '-o', parts[0]],
                        [*compiler, '-shared', parts[0], '-o', parts[1]]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            if done.returncode:
                errors = [line for line in done.stderr.splitlines() if 'error' in line] or done.stderr.splitlines()
                raise _CannotCompile(errors[0] if errors else f'{compiler[0]} ended with {done.returncode}')
        os.replace(parts[1], path)


def _loaded(path: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    pointer, size, flag = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    loaded.mmreplk_convolve.argtypes = [pointer] * 4 + [size] * 8 + [flag] * 6
    loaded.mmreplk_grad_weight.argtypes = [pointer] * 3 + [size] * 8 + [flag] * 5
    return loaded
