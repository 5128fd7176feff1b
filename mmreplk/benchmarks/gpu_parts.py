"""The parts of a GPU measurement that are code of this package: ``python -m mmreplk.benchmarks.gpu_parts``.

Each part writes its JSON file after every figure; ``operator`` and ``pointwise`` continue an existing file.
"""

import argparse
import functools
import itertools
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..io import write_json
from .measure import environment
from .operator import PRECISIONS, Case, benchmark, roofs
from .pointwise import benchmark_pointwise

# RepLKNet-31B's stages on 512x512 images and UniRepLKNet-T's, whose large kernels are 13x13, with their branches.
REPLKNET = [(128, 128, 31), (256, 64, 29), (512, 32, 27), (1024, 16, 13)]
UNIREPLKNET = [(160, 64, 13), (320, 32, 13), (640, 16, 13)]
SMALL_KERNELS = [(160, 64, 3), (160, 64, 5), (160, 64, 7)]
STRIPS = [(96, 128, 51, 5), (96, 128, 5, 51)]  # SLaK-T's first stage


class Plan(NamedTuple):
    """What is measured.

    Attributes:
        cases: Convolutions to compile and to time.
        branches: Further ones to compile, which whole models need.
        rounds: How often each is timed.
        pointwise: Maps ``(N, C, H = W)`` of 1x1 convolutions to time.
        compiled: How many tiles of a convolution are compiled; None for all.
    """
    cases: list[Case]
    branches: list[Case]
    rounds: int
    pointwise: list[tuple[int, int, int]]
    compiled: int | None


PLANS = {
    'whole': Plan([Case(n, *stage) for n in (16, 1) for stage in REPLKNET] +
                  [Case(16, *stage) for stage in UNIREPLKNET + STRIPS + SMALL_KERNELS],
                  [Case(n, c, h, 5) for n in (16, 1) for c, h, _ in REPLKNET], 5,
                  [(16, 128, 128), (16, 256, 64), (16, 512, 32), (16, 1024, 16)], None),
    'tiny': Plan([Case(1, 2, 16, 5), Case(1, 3, 10, 13, 5)], [], 2, [(1, 8, 8)], 1),
}
PASSES = ('forward', 'grad_input', 'grad_weight')
WRITTEN_EVERY = 2.  # seconds between two writings of the kernels that have been compiled
# How many algorithms cuDNN tries for a convolution: those that it expects least of may take seconds a call.
CUDNN_TRIES = 3


def measure_environment(path: Path, device: str, precisions: list[str], plan: Plan) -> None:
    """Writes the environment, and the rates of matrix products and copies in each precision."""
    found: dict[str, Any] = dict(environment=environment(device), roofs={})
    write_json(found, path)
    for precision in precisions:
        found['roofs'][precision] = roofs(precision, device, 10 if device == 'cuda' else 2)
        write_json(found, path)


def compile_all(path: Path, device: str, precisions: list[str], plan: Plan) -> None:
    """Compiles all tiles of all kernels into Triton's cache on disk, in as many processes as there are cores.

    Meanwhile tries those with tensor descriptors on the GPU, in a process of their own. On a machine without a GPU,
    compiles for one of compute capability 9.0.
    """
    from ..ops.triton import cost, layout, trial
    gpu = layout.gpu_of(torch.empty(1, device=device)) if device == 'cuda' else cost.GPUS[90]
    found: dict[str, Any] = dict(compiled=[], descriptors={})
    write_json(found, path)
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), multiprocessing.get_context('spawn')) as pool:
        waiting = [pool.submit(compile_kernel, *task, gpu) for task in _kernels(precisions, plan, gpu)]
        for kernel in ('forward', 'grad_weight') if device == 'cuda' and gpu.capability >= 90 else ():
            found['descriptors'][kernel] = trial.works(kernel, torch.device(device))
        written = -math.inf
        for i, done in enumerate(as_completed(waiting), 1):
            found['compiled'].append(done.result())
            if time.monotonic() - written > WRITTEN_EVERY or i == len(waiting):
                write_json(found, path)
                written = time.monotonic()


def _kernels(precisions: list[str], plan: Plan, gpu: tuple) -> list[tuple[str, Case, str, int]]:
    """Returns what to compile, for :func:`compile_kernel`, the first case of each precision first; no code twice."""
    from ..ops.triton import offline
    found: dict[str, tuple[str, Case, str, int]] = {}
    for precision, case, what in itertools.product(precisions, plan.cases + plan.branches, PASSES):
        for i, launch in enumerate(_launches(precision, case, what, gpu)[:plan.compiled]):
            found.setdefault(f'{precision} {offline.signature(launch)}', (precision, case, what, i))
    return list(found.values())


@functools.lru_cache(maxsize=8)
def _launches(precision: str, case: Case, what: str, gpu: tuple) -> list:
    """Returns the launches of all tiles of a pass."""
    from ..ops import triton as kernels
    from ..ops.triton import offline
    dtype, torch.backends.cudnn.allow_tf32, _ = PRECISIONS[precision]
    x = torch.empty(case.n, case.c, case.h, case.h, dtype=dtype, device='meta')
    weight = torch.empty(case.c, 1, *case.kernel_size, dtype=dtype, device='meta')
    operands = (x, x, case.kernel_size) if what == 'grad_weight' else (x, weight)
    return offline.candidates(gpu, getattr(kernels, what), *operands)


def compile_kernel(precision: str, case: Case, what: str, index: int, gpu: tuple) -> dict:
    """Compiles one of the launches of a pass; returns which it was, in how many seconds, and what failed, if it did."""
    from triton.backends.compiler import GPUTarget

    from ..ops.triton import offline
    launch, problem, begin = _launches(precision, case, what, gpu)[index], None, time.monotonic()
    try:
        offline.compile_launch(launch, GPUTarget('cuda', gpu.capability, 32))
    except Exception as error:  # Compilers raise what they like.
        problem = f'{type(error).__name__}: {error}'.splitlines()[0]
    return dict(**case._asdict(), precision=precision, kernel=launch.kernel.__name__, tile=offline.tile(launch),
                seconds=round(time.monotonic() - begin, 2), problem=problem)


def measure_operator(path: Path, device: str, precisions: list[str], plan: Plan) -> None:
    """Times the operator against its rivals, case by case; cases that the file has are skipped."""
    report = json.loads(path.read_text()) if path.exists() else dict(environment=environment(device), results=[])
    done = {(*(row[name] for name in Case._fields), row['precision']) for row in report['results']}
    for precision, case in itertools.product(precisions, plan.cases):
        if (*case, precision) not in done:
            report['results'] += benchmark(case, precision, device, rounds=plan.rounds)
            write_json(report, path)
            print(precision, case, flush=True)


def measure_pointwise(path: Path, device: str, precisions: list[str], plan: Plan) -> None:
    """Times ways to compute 1x1 convolutions and norms, stage by stage; stages that the file has are skipped."""
    report = json.loads(path.read_text()) if path.exists() else dict(environment=environment(device), pointwise=[])
    done = {(row['n'], row['c'], row['h'], row['precision']) for row in report['pointwise']}
    for precision, size in itertools.product(precisions, plan.pointwise):
        if (*size, precision) not in done:
            rows = benchmark_pointwise(*size, PRECISIONS[precision].dtype, device, plan.rounds)
            report['pointwise'] += [dict(row, precision=precision) for row in rows]
            write_json(report, path)


PARTS: dict[str, Callable[[Path, str, list[str], Plan], None]] = {
    'environment': measure_environment,
    'compile': compile_all,
    'operator': measure_operator,
    'pointwise': measure_pointwise,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('part', choices=PARTS)
    parser.add_argument('path', type=Path, help='the JSON file to write')
    parser.add_argument('--device', choices=['cuda', 'cpu'], required=True)
    parser.add_argument('--precision', nargs='+', choices=PRECISIONS, required=True)
    parser.add_argument('--plan', choices=PLANS, default='whole')
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit = True, CUDNN_TRIES
    PARTS[args.part](args.path, args.device, args.precision, PLANS[args.plan])


if __name__ == '__main__':
    main()
