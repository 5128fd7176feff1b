"""Times the large-kernel depthwise convolution against other implementations ("rivals"), after checking each result.

Without options it measures everything for the device: the stages of RepLKNet-31B, on a GPU for sixteen images and for
one, in every precision, and the shapes that others publish figures for. ``MMREPLK_AUTOTUNE=1`` lets the Triton kernels
choose their tiles first.

``useful`` counts the taps that fall inside the map, ``GB/s`` the bytes that must at least be read and written; the
shares are of the matrix multiplication rate and the copy bandwidth measured in the same run. ``--grid`` compares over a
grid of shapes with PyTorch and with every way of computing on a CPU, and prints where the choice is slow.
``--runtimes`` compares with ONNX Runtime and OpenVINO on a CPU. ``--rival`` adds any function of input ``(N, C, H, W)``
and filter ``(C, 1, K, K)`` that can be imported, such as another library's kernel. Files are written case by case, and
an interrupted run continues when the same command is called again.
"""

import argparse
import importlib
import itertools
import os
import re
from pathlib import Path

import torch

from mmreplk import InputError
from mmreplk.benchmarks import Kept, environment, grid, runtimes, tables
from mmreplk.benchmarks.operator import PRECISIONS, Case, Rival, benchmark, rivals_on, roofs
from mmreplk.cli import device, file_to_write, run
from mmreplk.io import markdown_table

# RepLKNet-31B's four stages on 512x512 images, without the batch.
STAGES = [(128, 128, 31), (256, 64, 29), (512, 32, 27), (1024, 16, 13)]
# Shapes that the official implicit-GEMM extension and NVIDIA's FFT convolution publish figures for. The latter's time
# does not depend on the kernel, so the largest kernel that fits the map is taken.
PUBLISHED = [Case(64, 384, 32, 31), Case(8, 768, 16, 15), Case(8, 768, 32, 31), Case(8, 768, 64, 63)]
FIGURES = ('.png', '.jpg', '.jpeg', '.svg', '.pdf')
ROOFS = ('gemm_tflops', 'copy_gb_per_s')
KERNEL_SIZES = (3, 5, 7, 9, 13, 17, 21, 25, 31, 39, 51)
COLUMNS = ('N,C,H=W,K', 'precision', 'pass', 'rival', 'median ms', '20 %', '80 %', 'useful TFLOP/s', 'share', 'GB/s',
           'share', 'peak MiB')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', type=device, choices=['cuda', 'cpu'],
                        default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--precision', nargs='+', choices=PRECISIONS, help='default: all on a GPU, float32 on a CPU')
    parser.add_argument('--batch', type=int, nargs='*',
                        help='batch sizes of the stages; default: 16 and 1 on a GPU, 1 on a CPU')
    parser.add_argument('--case', nargs='*',
                        help='more cases, as N,C,H,K; default: on a GPU, those with published figures')
    parser.add_argument('--rival', nargs='+', default=[], metavar='NAME=MODULE:FUNCTION', help='more implementations')
    parser.add_argument('--grid', type=file_to_write, metavar='FILE',
                        help='time a grid of shapes in all ways; FILE gets a line of JSON for each')
    parser.add_argument('--sample', type=int, help='number of shapes of the grid, drawn at random; default: all')
    parser.add_argument('--runtimes', type=file_to_write, metavar='FILE',
                        help='time the forward pass beside ONNX Runtime and OpenVINO')
    parser.add_argument('--rounds', type=int, default=10, help='how many times each is timed')
    parser.add_argument('--json', type=file_to_write, help='file for the raw figures')
    parser.add_argument('--plot', type=file_to_write,
                        help='picture of forward time against kernel size, in the first precision')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise InputError('--device cuda needs a GPU that PyTorch can use, and there is none')
    if args.rounds < 2 or min(args.batch or [1]) < 1:
        raise InputError(f'--rounds must be at least 2 and --batch positive, got {args.rounds} and {args.batch}')
    if args.plot and Path(args.plot).suffix.lower() not in FIGURES:
        raise InputError(f'--plot must end in {", ".join(FIGURES)}, got {args.plot!r}')
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    device, is_gpu = args.device, args.device == 'cuda'
    if args.sample is not None and args.sample < 1:
        raise InputError(f'--sample must be positive, got {args.sample}')
    if args.grid:
        dtypes = [PRECISIONS[name].dtype for name in args.precision or ['float32', 'bfloat16']]
        print(grid.summary(grid.run(Path(args.grid), dtypes, device, args.rounds, args.sample)))
        return
    if args.runtimes:
        compare_with_runtimes(args)
        return
    precisions = args.precision or (['bfloat16', 'float16', 'tf32', 'float32'] if is_gpu else ['float32'])
    batches = ([16, 1] if is_gpu else [1]) if args.batch is None else args.batch
    cases = [Case(n, *stage) for n in batches for stage in STAGES]
    cases += (PUBLISHED if is_gpu else []) if args.case is None else map(parsed, args.case)
    rivals = rivals_on(device) | dict(map(imported, args.rival))
    tuned = os.environ.get('MMREPLK_AUTOTUNE') == '1'
    kept = Kept(args.json, dict(environment=environment(device), tuned=tuned, rivals=list(rivals), rounds=args.rounds))
    print(markdown_table(COLUMNS), end='')
    for precision in precisions:
        limits = limits_of(kept, precision, device)
        for case in cases:
            key = dict(case._asdict(), precision=precision, series='cases')
            if not kept.measured(**key):
                rows = benchmark(case, precision, device, rivals=rivals, rounds=args.rounds)
                kept.add(dict(row, series='cases', **limits) for row in rows)
            for row in kept.measured(**key):
                print_row(row)
    if args.plot:
        plot(kernel_sizes(kept, Case(16 if is_gpu else 1, 128, 64, 0), precisions[0], args, rivals), args.plot)


def limits_of(kept: Kept, precision: str, device: str) -> dict[str, float]:
    """Returns the rates of matrix products and copies that an earlier run measured, or those measured now."""
    before = next(iter(kept.measured(precision=precision, series='cases')), None)
    return {name: before[name] for name in ROOFS} if before else roofs(precision, device)


def kernel_sizes(kept: Kept, case: Case, precision: str, args: argparse.Namespace,
                 rivals: dict[str, Rival]) -> list[dict]:
    """Returns rows of the forward pass over all kernel sizes, including those measured before."""
    found = []
    for k in KERNEL_SIZES:
        key = dict(case._replace(k=k)._asdict(), precision=precision, series='kernel sizes')
        if not kept.measured(**key):
            rows = benchmark(case._replace(k=k), precision, args.device, ['forward'], rivals, args.rounds)
            kept.add(dict(row, series='kernel sizes') for row in rows)
        found += kept.measured(**key)
    return found


def compare_with_runtimes(args: argparse.Namespace) -> None:
    kept = Kept(args.runtimes, dict(environment=environment('cpu') | runtimes.versions()))
    precisions, batches = args.precision or ['float32', 'bfloat16'], args.batch or [1, 8]
    for precision, batch, (network, *sizes) in itertools.product(precisions, batches, runtimes.STAGES):
        case = runtimes.Case(network, batch, *sizes)
        if not kept.measured(dtype=precision, **case._asdict()):
            kept.add(runtimes.compare(case, PRECISIONS[precision].dtype, args.rounds))
    print(tables.runtimes_table(dict(results=kept.rows)))


def parsed(case: str) -> Case:
    """Returns the case that ``N,C,H,K`` stands for."""
    if not re.fullmatch(r'[1-9]\d*(,[1-9]\d*){3}', case) or int(case.split(',')[-1]) % 2 == 0:
        raise InputError(f'--case must be N,C,H,K, positive integers with an odd K, got {case!r}')
    return Case(*map(int, case.split(',')))


def imported(rival: str) -> tuple[str, Rival]:
    """Returns the name and the function that ``NAME=MODULE:FUNCTION`` stands for."""
    match = re.fullmatch(r'(.+?)=([\w.]+):(\w+)', rival)
    try:
        return match[1], getattr(importlib.import_module(match[2]), match[3])
    except (TypeError, ImportError, AttributeError) as error:
        raise InputError(f'--rival must be NAME=MODULE:FUNCTION of something that can be imported, got {rival!r} '
                         f'({error})') from error


def print_row(row: dict) -> None:
    kernel = f'{row["k"]}x{row["kw"]}' if row['kw'] else row['k']
    head = f'| {row["n"]},{row["c"]},{row["h"]},{kernel} | {row["precision"]}'
    if 'what' not in row:
        why = f'wrong by {row["error"]:.1e}' if 'error' in row else row['raised'].splitlines()[0]
        print(f'{head} | not timed: {why} | {row["rival"]} |', flush=True)
        return
    flops, bandwidth, peak = row['useful_tflops'], row['least_gb_per_s'], row['peak_mib']
    cells = [
        row['what'], row['rival'],
        *(f'{row[name]:.3f}' for name in ('median_ms', 'percentile20_ms', 'percentile80_ms')),
        f'{flops:.3f}', f'{flops / row["gemm_tflops"]:.0%}', f'{bandwidth:.1f}',
        f'{bandwidth / row["copy_gb_per_s"]:.0%}', '' if peak is None else f'{peak:.0f}'
    ]
    print(f'{head} | {" | ".join(cells)} |', flush=True)


def plot(rows: list[dict], path: str) -> None:
    """Draws forward time against kernel size."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout='constrained')
    for name in dict.fromkeys(row['rival'] for row in rows):
        own = [row for row in rows if row['rival'] == name and 'what' in row]
        axes.plot([row['k'] for row in own], [row['median_ms'] for row in own], 'o-', label=name)
    axes.set(xlabel='kernel size', ylabel='forward of {n}x{c}x{h}x{h}, ms'.format(**rows[0]), yscale='log',
             xticks=KERNEL_SIZES)
    axes.legend()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
