"""Compiles the Triton kernels without a GPU and writes down what the machine code looks like; nothing is timed.

Each is compiled at the tile that is taken unmeasured, and at the best one with tensor descriptors.
A step's cycles of tensor cores, schedulers, shared memory and L2 follow from the instructions counted in the machine
code and from the bytes that a step moves; the largest is the bound. Writes the figures to
``docs/benchmarks/compiled.json`` and a table of them into ``docs/triton_kernels.md``.
"""

import json
from pathlib import Path
from unittest import mock

import torch
import triton

from mmreplk.io import markdown_table
from mmreplk.ops import triton as kernels
from mmreplk.ops.triton import offline, tuning

DOCS = Path(__file__).parents[2] / 'docs'
# (N, C, H = W, K): RepLKNet-31B's four stages on 512x512 images, in training and for a single image.
CASES = [(n, *stage) for n in (16, 1) for stage in [(128, 128, 31), (256, 64, 29), (512, 32, 27), (1024, 16, 13)]]
PRECISIONS = {'bfloat16': (torch.bfloat16, True), 'TF32': (torch.float32, True), 'float32': (torch.float32, False)}
COLUMNS = ['case', 'precision', 'kernel', 'sm', 'tensor-core instruction', 'registers', 'stack', 'shared',
           'instructions', 'issue cycles', 'MMA cycles', 'L2 bytes', 'shared bytes', 'bound']
BOUNDS = dict(mma='tensor cores', issue='instructions', shared='shared memory', l2='L2')


def main() -> None:
    rows = [row for case in CASES for precision in PRECISIONS for row in compiled(case, precision)]
    lines = ',\n'.join(map(json.dumps, rows))
    (DOCS / 'benchmarks').mkdir(exist_ok=True)
    (DOCS / 'benchmarks/compiled.json').write_text(f'{{"triton": "{triton.__version__}", "rows": [\n{lines}\n]}}\n')
    page = DOCS / 'triton_kernels.md'
    head, mark, _ = page.read_text().partition('| case |')
    assert mark, f'{page} has no table to replace'
    page.write_text(head + table(rows))


def compiled(case: tuple[int, int, int, int], precision: str) -> list[dict]:
    """Returns one row for each kernel and compute capability of a case ``(N, C, H = W, K)``."""
    n, c, h, k = case
    dtype, torch.backends.cudnn.allow_tf32 = PRECISIONS[precision]
    x, weight = (torch.empty(shape, dtype=dtype, device='meta') for shape in [(n, c, h, h), (c, 1, k, k)])
    rows = []
    for sm in offline.TARGETS:
        launches = passes(sm, x, weight)
        with mock.patch.object(tuning, 'best', described):
            launches += [launch for launch in passes(sm, x, weight) if 'descriptor' in launch.kernel.__name__]
        rows += [row(case, precision, sm, launch) for launch in launches]
    return sorted(rows, key=lambda row: row['kernel'])


def passes(sm: int, x: torch.Tensor, weight: torch.Tensor) -> list[offline.Launch]:
    found = offline.launches(sm, kernels.forward, x, weight)
    return found + offline.launches(sm, kernels.grad_weight, x, x, tuple(weight.shape[2:]))


def described(kernel: str, problem: tuple, x: torch.Tensor, candidates: list, launch: object) -> tuple:
    """Replaces ``tuning.best``: returns the first tile with tensor descriptors, if there is one."""
    return next((tile for tile in candidates if tile.descriptors), candidates[0])


def row(case: tuple, precision: str, sm: int, launch: offline.Launch) -> dict:
    code = offline.inspect(launch, sm)
    found = dict(case=case, precision=precision, sm=sm, tile=offline.tile(launch), **code._asdict())
    if code.mma:
        step = offline.step(launch, code, sm)
        found.update(step={name: round(value) for name, value in step._asdict().items()}, bound=step.bound)
    return found


def table(rows: list[dict]) -> str:
    """Returns the Markdown table of the first case; the others look much the same."""
    lines = []
    for row in rows:
        if row['case'] == CASES[0] and row['mma']:
            (mma, count), = row['mma'].items()
            step = row['step']
            lines.append([
                ','.join(map(str, row['case'])), row['precision'],
                row['kernel'].removesuffix('_kernel').replace('descriptor_', 'descriptor '), row['sm'],
                f'{count} x {mma}', row['registers'], row['stack'], f'{row["shared"] // 1024} KB', row['instructions'],
                step['issue'], step['mma'], step['l2_bytes'], step['shared_bytes'], BOUNDS[row['bound']]
            ])
    return markdown_table(COLUMNS, lines)


if __name__ == '__main__':
    main()
