"""Compiles the kernels that a call would launch on a GPU, which need not be there, and inspects the result.

The launchers run on tensors of the ``meta`` device, which have shapes and no memory, while their launches are recorded;
each is then compiled with the specialization that Triton would have derived from its arguments.
"""

import functools
import math
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

from . import cost, layout, tuning

TARGETS = (80, 90, 100)  # compute capabilities, times ten
_MMA = r'wgmma\.mma_async\.sync\.aligned\.(m\w+)|mma\.sync\.aligned\.(m\w+)|tcgen05\.mma\.\S+(kind::\w+)'
_COPY = r'cp\.async\.c[ag]\.shared\.global[^;]*?, (0x[0-9a-f]+)'


class Launch(NamedTuple):
    kernel: JITFunction
    args: tuple
    kwargs: dict[str, Any]


class Compiled(NamedTuple):
    """What the compiler made of a launch. Counts are of instructions in the PTX, unless said otherwise."""
    kernel: str
    mma: dict[str, int]  # in the loop, by name
    copies: dict[int, int]  # asynchronous ones in the loop, by bytes
    bulk_copies: int  # of whole blocks in the loop, by the tensor memory accelerator
    loads: int  # in the loop, not asynchronous
    instructions: int | None  # of the machine code of the loop, for each warp; 0 if it was unrolled; None: not counted
    registers: int
    stack: int  # bytes
    shared: int  # bytes


def launches(capability: int, function: Callable, *args, **kwargs) -> list[Launch]:
    """Returns what ``function(*args, **kwargs)`` would launch on compute capability ``capability / 10``."""
    return _record(cost.GPUS[capability], function, *args, **kwargs)


def candidates(gpu: cost.Gpu, function: Callable, *args, **kwargs) -> list[Launch]:
    """Returns what ``function(*args, **kwargs)`` would launch while it is tuned on ``gpu``: all its tiles."""

    def launch_all(kernel: str, problem: tuple, x: torch.Tensor, tiles: list[tuple], launch: Callable) -> tuple:
        for tile in tiles:
            launch(tile)
        return tiles[0]

    with mock.patch.object(tuning, 'best', launch_all):
        found = _record(gpu, function, *args, **kwargs)
    return list({signature(launch): launch for launch in found}.values())


def signature(launch: Launch) -> str:
    """Returns what ``launch`` is compiled from, the same for launches that share their machine code."""
    operands = [(str(getattr(arg, 'base', arg).dtype), getattr(arg, 'block_shape', None))
                if hasattr(arg, 'dtype') or hasattr(arg, 'base') else arg is None for arg in launch.args]
    return f'{launch.kernel.__name__} {operands} {launch.kwargs}'


def _record(gpu: cost.Gpu, function: Callable, *args, **kwargs) -> list[Launch]:
    recorded = []

    def record(self, *args, grid, warmup, **kwargs):
        recorded.append(Launch(self, args, kwargs))

    known = mock.patch.object(layout, 'gpu_of', lambda t: gpu)
    with mock.patch.object(JITFunction, 'run', record), known:
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


def inspect(launch: Launch, capability: int, counted: bool = True) -> Compiled:
    """Compiles ``launch`` for an NVIDIA GPU of compute capability ``capability / 10`` and reads off the result.

    Without ``counted``, it leaves the instructions uncounted, for which the machine code is disassembled.
    """
    compiled = compile_launch(launch, GPUTarget('cuda', capability, 32))
    loop = _main_loop(compiled.asm['ptx'])
    cubin = compiled.asm['cubin']
    registers, stack = re.search(r'REG:(\d+) STACK:(\d+)', _ask(cubin, 'cuobjdump', '--dump-resource-usage')).groups()
    return Compiled(
        launch.kernel.__name__,
        dict(Counter(match[0].replace('.sync.aligned', '') for match in re.finditer(_MMA, loop))),
        dict(Counter(int(size, 16) for size in re.findall(_COPY, loop))),
        len(re.findall(r'cp\.async\.bulk\.tensor', loop)),
        len(re.findall(r'ld\.global', loop)),
        _count_instructions(cubin) if counted else None,
        int(registers),
        int(stack),
        compiled.metadata.shared)


def step(launch: Launch, compiled: Compiled, capability: int) -> cost.Step:
    """Returns what a step of the loop of ``launch`` costs, with the instructions that were counted."""
    sizes, dtype = launch.kwargs, launch.args[0].base.dtype if _is_described(launch) else launch.args[0].dtype
    if compiled.kernel.endswith('grad_weight_kernel'):
        m, n, k = (math.prod(sizes[name] for name in names) for names in [
            ('DEPTH_IN', 'WIDTH'), ('DEPTH', 'BLOCK_X'), ('BLOCK_N', 'BLOCK_G')])
        if _is_described(launch):
            m, n = n, m
    else:
        m, n, k = sizes['DEPTH'] * sizes['BLOCK_X'], sizes['BLOCK_N'], sizes.get('BLOCK_K', sizes['WIDTH'])
        n *= sizes.get('BLOCK_G', 1)
    return cost.step(cost.GPUS[capability], m, n, k, sizes['num_warps'], dtype.itemsize, sizes.get('PRECISION', 'tf32'),
                     compiled.instructions)


def _is_described(launch: Launch) -> bool:
    return not isinstance(launch.args[0], torch.Tensor)


def _main_loop(ptx: str) -> str:
    """Returns the longest stretch from a label to a jump back to it, empty if there is none."""
    loops = re.finditer(r'^(\$L\w+):[\s\S]*bra(\.uni)?\s+\1;', ptx, re.MULTILINE)
    return max((loop[0] for loop in loops), key=len, default='')


@functools.cache  # half a second
def _count_instructions(cubin: bytes) -> int:
    """Returns the instructions of the shortest loop that multiplies on tensor cores."""
    labels: dict[str, int] = {}
    code: list[str] = []
    found: list[int] = []
    for line in _ask(cubin, 'nvdisasm', '--print-code', '--no-dataflow').splitlines():
        if label := re.match(r'(\.L_\w+):', line):
            labels[label[1]] = len(code)
        elif instruction := re.match(r'\s+/\*[0-9a-f]{4,}\*/\s+(.*?);', line):
            code.append(instruction[1])
            jump = re.search(r'\bBRA\b.*`\((\.L_\w+)\)', instruction[1])
            loop = code[labels.get(jump[1], len(code)):] if jump else []
            if any('MMA' in line for line in loop):
                found.append(len(loop))
    return min(found, default=0)


def _ask(cubin: bytes, tool: str, *options: str) -> str:
    """Returns what one of the tools that come with Triton says of machine code."""
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(cubin)
        file.flush()
        return subprocess.check_output(
            [Path(triton.__file__).parent / 'backends/nvidia/bin' / tool, *options, file.name], text=True)
