"""Compiles the Triton kernels for GPUs that need not be there and writes down what came out: no time, only code.

Writes the figures to ``docs/benchmarks/compiled.json`` and the table made of them into ``docs/triton_kernels.md``.
"""

import json
from pathlib import Path

import torch
import triton

from mmreplk.io import markdown_table
from mmreplk.ops import triton as kernels
from mmreplk.ops.triton import offline

DOCS = Path(__file__).parents[2] / 'docs'
# (N, C, H = W, K): RepLKNet-31B's four stages on 512x512 images, in training and for a single image.
CASES = [(n, *stage) for n in (16, 1) for stage in [(128, 128, 31), (256, 64, 29), (512, 32, 27), (1024, 16, 13)]]
PRECISIONS = {'bfloat16': (torch.bfloat16, True), 'TF32': (torch.float32, True), 'float32': (torch.float32, False)}
COLUMNS = ['case', 'precision', 'kernel', 'sm', 'tensor-core instruction', 'copies', 'registers', 'stack', 'shared']


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
    for sm in offline.SHARED_LIMIT:
        launches = offline.launches(sm, kernels.forward, x, weight)
        launches += offline.launches(sm, kernels.grad_weight, x, x, (k, k))
        rows += [dict(case=case, precision=precision, sm=sm, tile=offline.tile(launch),
                      **offline.inspect(launch, sm)._asdict()) for launch in launches]  # yapf: disable
    return sorted(rows, key=lambda row: row['kernel'])


def table(rows: list[dict]) -> str:
    """Returns the Markdown table of the first case, the rest being much the same."""
    lines = []
    for row in rows:
        if row['case'] == CASES[0] and row['mma']:
            (mma, count), = row['mma'].items()
            (size, copies), = row['copies'].items()
            lines.append([
                ','.join(map(str, row['case'])), row['precision'], row['kernel'].removesuffix('_kernel'), row['sm'],
                f'{count} x {mma}', f'{copies} x {size} B', row['registers'], row['stack'],
                f'{row["shared"] // 1024} KB'
            ])
    return markdown_table(COLUMNS, lines)


if __name__ == '__main__':
    main()
