"""Measures the prices of mmreplk/ops/cpu/prices.py on this machine.

``measure ROWS.jsonl --minutes 10`` adds measurements of random problems to a file, a line for each. It uses one thread
and counts processor time, so that a busy machine does little harm; called again, it adds more. ``fit ROWS.jsonl``
prints the prices, and how much slower the ways that they choose are than the best ones measured. On a CPU with AVX-512,
ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 measures as if it had none.
"""

import argparse
import json
import pprint
import statistics
import time
from pathlib import Path

import torch
from cpu_thresholds import fitted, measure, problems, regrets

from mmreplk import InputError
from mmreplk.cli import run
from mmreplk.ops import cpu
from mmreplk.ops.cpu import costs


def main(args: argparse.Namespace) -> None:
    if not cpu.IS_SUPPORTED:
        raise InputError('there is nothing to measure: the fast path needs an x86 CPU with AVX2 and oneDNN')
    if not args.minutes >= 0 or args.worst < 0:  # nor NaN, which no time is beyond
        raise InputError(f'--minutes and --worst must not be negative, got {args.minutes} and {args.worst}')
    path = Path(args.rows)
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError('not every line is an object')
    except ValueError as error:
        raise InputError(f'{str(path)!r} holds no measurements of this tool: {error}') from error
    if args.do == 'measure':
        torch.set_num_threads(1)
        end = time.monotonic() + 60 * args.minutes
        with path.open('a') as file:
            for problem in problems(seed=len(rows)):
                if time.monotonic() > end:
                    break
                file.write(json.dumps(measure(problem)) + '\n')
                file.flush()
        return
    if not rows:
        raise InputError(f'there are no measurements in {path}')
    prices = fitted(rows)
    print(f'{costs.PROCESSOR!r}:')
    pprint.pprint(prices, width=120)
    for dtype in (torch.float32, torch.bfloat16):
        for channels_last in (False, True):
            for what, found in regrets(rows, prices, dtype, channels_last).items():
                ratios = [ratio for ratio, *_ in found]
                slow = sum(ratio > 1 / 0.9 for ratio in ratios)
                print(f'{what} {dtype}, {"channels-last" if channels_last else "contiguous"}: '
                      f'{statistics.mean(ratios):.3f} times the best on average, more than 1 / 0.9 in {slow} of '
                      f'{len(ratios)} shapes')
                for ratio, problem, chosen, best in sorted(found, key=lambda row: row[0])[-args.worst:]:
                    print(f'  {ratio:.2f} {tuple(problem[:6])}: {chosen}, best {best}')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('do', choices=['measure', 'fit'])
    parser.add_argument('rows', help='file of measurements')
    parser.add_argument('--minutes', type=float, default=10, help='how long to measure')
    parser.add_argument('--worst', type=int, default=5, help='how many of the worst choices to show')
    return parser.parse_args()


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
