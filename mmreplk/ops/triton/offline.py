"""Compiles what a call would launch for a GPU that need not be there, and reads off what came out.

The launchers run on tensors of the ``meta`` device, which have shapes and no memory, while their launches are recorded;
each is then compiled with the specialization that Triton would have derived from its arguments.
"""

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

from . import layout

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # bytes a program may have, by compute capability
_MMA = r'wgmma\.mma_async\.sync\.aligned\.(m\w+)|mma\.sync\.aligned\.(m\w+)|tcgen05\.mma\.\S+(kind::\w+)'
_COPY = r'cp\.async\.c[ag]\.shared\.global[^;]*?, (0x[0-9a-f]+)'


class Launch(NamedTuple):
    kernel: JITFunction
    args: tuple
    kwargs: dict[str, Any]


class Compiled(NamedTuple):
    """What the compiler made of a launch: counts are of instructions in the PTX, of the loop where it says so."""
    kernel: str
    mma: dict[str, int]  # in the loop, by name
    copies: dict[int, int]  # asynchronous ones in the loop, by bytes
    loads: int  # in the loop, not asynchronous
    registers: int
    stack: int  # bytes
    shared: int  # bytes


def launches(capability: int, function: Callable, *args, **kwargs) -> list[Launch]:
    """Returns what ``function(*args, **kwargs)`` would launch on compute capability ``capability / 10``."""
    recorded = []

    def record(self, *args, grid, warmup, **kwargs):
        recorded.append(Launch(self, args, kwargs))

    generation = mock.patch.object(layout, 'generation', lambda t: capability // 10)
    with mock.patch.object(JITFunction, 'run', record), generation:
        function(*args, **kwargs)
    return recorded


def tile(launch: Launch) -> dict[str, int]:
    """Returns the sizes that the launch was cut to, with its warps and stages."""
    return {name: value for name, value in launch.kwargs.items() if name.startswith(('BLOCK', 'DEPTH', 'num_'))}


def compile_launch(launch: Launch, target: GPUTarget) -> triton.compiler.CompiledKernel:
    """Compiles ``launch`` as it would be on ``target``."""
    absent = SimpleNamespace(
        get_current_target=lambda: target, get_current_device=lambda: target, get_current_stream=lambda device: 0)
    driver.set_active(absent)
    try:
        return launch.kernel.warmup(*launch.args, grid=(1,), **launch.kwargs)
    finally:
        driver.set_active(None)  # the one that Triton finds by itself


def inspect(launch: Launch, capability: int) -> Compiled:
    """Compiles ``launch`` for an NVIDIA GPU of compute capability ``capability / 10`` and reads off the result."""
    compiled = compile_launch(launch, GPUTarget('cuda', capability, 32))
    loop = _main_loop(compiled.asm['ptx'])
    registers, stack = re.search(r'REG:(\d+) STACK:(\d+)', _resource_usage(compiled.asm['cubin'])).groups()
    return Compiled(
        launch.kernel.__name__,
        dict(Counter(match[0].replace('.sync.aligned', '') for match in re.finditer(_MMA, loop))),
        dict(Counter(int(size, 16) for size in re.findall(_COPY, loop))),
        len(re.findall(r'ld\.global', loop)),
        int(registers),
        int(stack),
        compiled.metadata.shared)


def _main_loop(ptx: str) -> str:
    """Returns the longest stretch from a label to a jump back to it, empty if there is none."""
    loops = re.finditer(r'^(\$L\w+):[\s\S]*bra(\.uni)?\s+\1;', ptx, re.MULTILINE)
    return max((loop[0] for loop in loops), key=len, default='')


def _resource_usage(cubin: bytes) -> str:
    tool = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(cubin)
        file.flush()
        return subprocess.check_output([tool, '--dump-resource-usage', file.name], text=True)
