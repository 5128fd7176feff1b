"""The parts of a GPU measurement that are code of this package: ``python -m mmreplk.benchmarks.gpu_parts``.

Each part writes its JSON file after every figure; ``operator`` and ``pointwise`` continue an existing file.
"""

import argparse
import itertools
import json
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
    """What is measured. ``compiled``: how many tiles of a case are compiled; None for all."""
    cases: list[Case]
    rounds: int
    pointwise: list[tuple[int, int, int]]
    compiled: int | None


PLANS = {
    'whole': Plan([Case(n, *stage) for n in (16, 1) for stage in REPLKNET] +
                  [Case(16, *stage) for stage in UNIREPLKNET + STRIPS + SMALL_KERNELS], 5,
                  [(16, 128, 128), (16, 256, 64), (16, 512, 32), (16, 1024, 16)], None),
    'tiny': Plan([Case(1, 2, 16, 5), Case(1, 3, 10, 13, 5)], 2, [(1, 8, 8)], 1),
}


def measure_environment(path: Path, device: str, precisions: list[str], plan: Plan) -> None:
    """Writes the environment, and the rates of matrix products and copies in each precision."""
    found: dict[str, Any] = dict(environment=environment(device), roofs={})
    write_json(found, path)
    for precision in precisions:
        found['roofs'][precision] = roofs(precision, device, 10 if device == 'cuda' else 2)
        write_json(found, path)


def compile_all(path: Path, device: str, precisions: list[str], plan: Plan) -> None:
    """Compiles all tiles of all kernels into Triton's cache on disk, in as many processes as there are cores.

    On a machine without a GPU, compiles for one of compute capability 9.0.
    """
    from ..ops.triton import cost, layout
    gpu = layout.gpu_of(torch.empty(1, device=device)) if device == 'cuda' else cost.GPUS[90]
    rows: list[dict] = []
    write_json(dict(compiled=rows), path)
    tasks = itertools.product(precisions, plan.cases, ('forward', 'grad_weight'))
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context('spawn')) as pool:
        waiting = [pool.submit(compile_case, *task, gpu, plan.compiled) for task in tasks]
        for done in as_completed(waiting):
            rows.append(done.result())
            write_json(dict(compiled=rows), path)


def compile_case(precision: str, case: Case, what: str, gpu: tuple, count: int | None) -> dict:
    """Compiles the launches of all tiles of a pass; returns how many, in how many seconds, and what failed."""
    from triton.backends.compiler import GPUTarget

    from ..ops import triton as kernels
    from ..ops.triton import offline
    begin, problems = time.monotonic(), []
    dtype, torch.backends.cudnn.allow_tf32, _ = PRECISIONS[precision]
    x = torch.empty(case.n, case.c, case.h, case.h, dtype=dtype, device='meta')
    weight = torch.empty(case.c, 1, *case.kernel_size, dtype=dtype, device='meta')
    call = (kernels.forward, x, weight) if what == 'forward' else (kernels.grad_weight, x, x, case.kernel_size)
    launches = offline.candidates(gpu, *call)[:count]
    for launch in launches:
        try:
            offline.compile_launch(launch, GPUTarget('cuda', gpu.capability, 32))
        except Exception as error:  # Compilers raise what they like.
            problems.append(f'{offline.tile(launch)}: {type(error).__name__}: {error}'.splitlines()[0])
    return dict(**case._asdict(), precision=precision, what=what, kernels=len(launches), problems=problems,
                seconds=round(time.monotonic() - begin, 1))


def measure_operator(path: Path, device: str, precisions: list[str], plan: Plan) -> None:
    """Times the operator against its rivals, case by case; cases that the file has are skipped."""
    report = json.loads(path.read_text()) if path.exists() else dict(environment=environment(device), results=[])
    done = {(*(row[name] for name in Case._fields), row['precision']) for row in report['results']}
    torch.backends.cudnn.benchmark = True
    for precision, case in itertools.product(precisions, plan.cases):
        if (*case, precision) not in done:
            report['results'] += benchmark(case, precision, device, rounds=plan.rounds)
            write_json(report, path)
            print(precision, case, flush=True)


def measure_pointwise(path: Path, device: str, precisions: list[str], plan: Plan) -> None:
    """Times ways to compute 1x1 convolutions and norms, stage by stage; stages that the file has are skipped."""
    report = json.loads(path.read_text()) if path.exists() else dict(environment=environment(device), pointwise=[])
    done = {(row['n'], row['c'], row['h'], row['precision']) for row in report['pointwise']}
    torch.backends.cudnn.benchmark = True
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
    PARTS[args.part](args.path, args.device, args.precision, PLANS[args.plan])


if __name__ == '__main__':
    main()
