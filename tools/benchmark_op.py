"""Times the large-kernel depthwise convolution against its rivals, after checking that each is right.

``useful`` counts the taps that fall inside the map; ``share`` is of the matrix multiplication rate measured in the same
run. ``--grid`` compares with PyTorch over a grid of shapes, and prints the least of the ratios. ``--rival`` adds any
function of input ``(N, C, H, W)`` and filter ``(C, 1, K, K)`` that can be imported, such as another library's kernel.
"""

import argparse
import importlib
import itertools
import json
import re
import statistics
from pathlib import Path

import torch

from mmreplk import InputError
from mmreplk.analysis import environment
from mmreplk.analysis.op_benchmark import RIVALS, Case, Rival, benchmark, roofs
from mmreplk.engine import run

# RepLKNet-31B's four stages on 512x512 images, without the batch.
STAGES = [(128, 128, 31), (256, 64, 29), (512, 32, 27), (1024, 16, 13)]
KERNEL_SIZES = (3, 5, 7, 9, 13, 17, 21, 25, 31, 39, 51)
GRID = dict(n=(1, 8), c=(16, 128, 1024), h=(7, 16, 33, 64, 128, 256), k=(3, 5, 7, 9, 11, 13, 15, 21, 31, 51))
SLOW = 0.95  # what of PyTorch's speed is to be reached everywhere
GRID_LIMIT = 2e9  # useful operations; larger cases take PyTorch more than a few seconds


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default='float32')
    parser.add_argument('--batch', type=int, nargs='*', default=[1], help='batch sizes of the stages of RepLKNet-31B')
    parser.add_argument('--case', nargs='+', default=[], help='more cases, as N,C,H,K')
    parser.add_argument('--rival', nargs='+', default=[], metavar='NAME=MODULE:FUNCTION', help='more rivals')
    parser.add_argument('--grid', action='store_true', help='a grid of shapes against PyTorch')
    parser.add_argument('--rounds', type=int, default=10, help='how often each is timed')
    parser.add_argument('--json', help='file for the raw figures')
    parser.add_argument('--plot', help='picture of forward time against kernel size')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    dtype, device = getattr(torch, args.dtype), args.device
    report = dict(environment=environment(device), roofs=roofs(dtype, device), results=[])
    rivals = RIVALS | dict(map(imported, args.rival))
    cases = [Case(n, *stage) for n in args.batch for stage in STAGES]
    cases += [Case(*map(int, case.split(','))) for case in args.case]
    columns = ('N,C,H=W,K', 'pass', 'rival', 'median ms', '20 %', '80 %', 'useful TFLOP/s', 'share', 'peak MiB')
    print(f'| {" | ".join(columns)} |\n' + '| --- ' * len(columns) + '|')
    for case in cases:
        for row in benchmark(case, dtype, device, rivals=rivals, rounds=args.rounds):
            report['results'].append(row)
            print_row(row, report['roofs']['gemm_tflops'])
    if args.grid:
        report['grid'] = grid(dtype, device, args.rounds)
    if args.plot:
        rows = [row for k in KERNEL_SIZES for row in benchmark(Case(1, 128, 64, k), dtype, device, ['forward'], rivals)]
        report['kernel_sizes'] = rows
        plot(rows, args.plot)
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(report) + '\n')


def imported(rival: str) -> tuple[str, Rival]:
    """Returns the name and the function that ``NAME=MODULE:FUNCTION`` says."""
    match = re.fullmatch(r'(.+?)=([\w.]+):(\w+)', rival)
    try:
        return match[1], getattr(importlib.import_module(match[2]), match[3])
    except (TypeError, ImportError, AttributeError) as error:
        raise InputError(f'--rival must be NAME=MODULE:FUNCTION of something that can be imported, got {rival!r} '
                         f'({error})') from error


def grid(dtype: torch.dtype, device: str, rounds: int) -> list[dict]:
    """Times the forward and the whole over GRID; returns and prints PyTorch's time over ours for each."""
    ratios = []
    for values in itertools.product(*GRID.values()):
        case = Case(*values)
        if case.useful_flop <= GRID_LIMIT:
            ratios += [dict(**case._asdict(), what=what, ratio=ratio(case, what, dtype, device, rounds))
                       for what in ('forward', 'forward+backward')]  # yapf: disable
    repeat_slow(ratios, dtype, device, rounds)
    print_grid(ratios)
    return ratios


def ratio(case: Case, what: str, dtype: torch.dtype, device: str, rounds: int) -> float:
    """Returns PyTorch's time over ours."""
    two = {name: RIVALS[name] for name in ('mmreplk', 'torch')}
    ours, theirs = (row['median_ms'] for row in benchmark(case, dtype, device, [what], two, rounds))
    return theirs / ours


def repeat_slow(ratios: list[dict], dtype: torch.dtype, device: str, rounds: int) -> None:
    """Measures again what came out slow, four times and longer: another program may have run meanwhile."""
    for row in ratios:
        if row['ratio'] < SLOW:
            case = Case(*(row[name] for name in Case._fields))
            row['repeated'] = [ratio(case, row['what'], dtype, device, 3 * rounds) for _ in range(4)]
            row['first_ratio'], row['ratio'] = row['ratio'], statistics.median(row['repeated'])


def print_grid(ratios: list[dict]) -> None:
    for what in ('forward', 'forward+backward'):
        own = sorted((row for row in ratios if row['what'] == what), key=lambda row: row['ratio'])
        least, most, slow = own[0]['ratio'], own[-1]['ratio'], sum(row['ratio'] < SLOW for row in own)
        repeated = sum('repeated' in row for row in own)
        print(f'\n{what}: PyTorch takes {least:.2f} to {most:.2f} times as long; below {SLOW} in {slow} of {len(own)} '
              f'shapes, of which {repeated} were measured again. The least:')
        for row in own[:8]:
            print('  {n},{c},{h},{k}: {ratio:.2f}'.format(**row))


def print_row(row: dict, gemm_tflops: float) -> None:
    head = f'| {row["n"]},{row["c"]},{row["h"]},{row["k"]}'
    if 'what' not in row:
        print(f'{head} | wrong by {row["error"]:.1e}, not timed | {row["rival"]} |')
        return
    peak = '' if row['peak_mib'] is None else f'{row["peak_mib"]:.0f}'
    print(f'{head} | {row["what"]} | {row["rival"]} | {row["median_ms"]:.2f} | {row["percentile20_ms"]:.2f} | '
          f'{row["percentile80_ms"]:.2f} | {row["useful_tflops"]:.3f} | {row["useful_tflops"] / gemm_tflops:.0%} | '
          f'{peak} |', flush=True)


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
             xticks=KERNEL_SIZES)  # yapf: disable
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
