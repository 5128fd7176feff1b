"""Gives the tools damaged datasets, configs with wrong values and damaged checkpoints, and judges what they do.

A case passes if the tool refuses it in one sentence that names the fault, warns about it by name, or gives the same
result as for the sound input, or if nothing can tell the two apart. It fails if the tool hangs, crashes, executes code
from a file, ends in a traceback, or continues as if nothing were wrong. The same seed gives the same cases.
"""

import argparse
import collections
import json
import random
import sys
import time
from pathlib import Path

from fuzzing import checkpoints, coco, configs, sandbox, segmentation

from mmreplk import InputError
from mmreplk.benchmarks import Kept
from mmreplk.cli import file_to_write, run
from mmreplk.io import write_json

KINDS = dict(checkpoints=checkpoints, segmentation=segmentation, coco=coco, configs=configs)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, count in (('checkpoints', 300), ('segmentation', 60), ('coco', 40), ('configs', 200)):
        parser.add_argument(f'--{name}', type=int, default=count, help='how many cases; default %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='seed of the cases; default %(default)s')
    parser.add_argument('--only', type=int, nargs='+', help='run the cases with these numbers only')
    parser.add_argument('--work-dir', default='work_dirs/fuzz', help='folder, which is emptied; default %(default)s')
    parser.add_argument('--cases', type=file_to_write,
                        help='JSON file for the output of each case; an interrupted run goes on where it ends')
    parser.add_argument('--json', type=file_to_write,
                        help='write the figures into this file; figures of other kinds in it are kept')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    for kind in KINDS:
        if getattr(args, kind) < 0:
            raise InputError(f'--{kind} must not be negative, got {getattr(args, kind)}')
    start = time.time()
    sandbox.warm_up()
    box = sandbox.Sandbox(Path(args.work_dir).resolve())
    kept, figures, wrong = Kept(args.cases, dict(seed=args.seed), 'cases'), {}, []
    for kind, module in KINDS.items():
        count = getattr(args, kind)
        if not count:
            continue
        make, tally = module.prepare(box), collections.defaultdict(collections.Counter)
        for number in range(count) if args.only is None else args.only:
            if not kept.measured(kind=kind, number=number):
                case = make(number, random.Random(f'{args.seed} {number}'))
                outcome, said = box.attempt(case)
                kept.add([dict(kind=kind, number=number, name=case.name, outcome=outcome, command=case.command,
                               said=said[-4000:])])
            [row] = kept.measured(kind=kind, number=number)
            tally[row['name']][row['outcome']] += 1
            if row['outcome'] not in sandbox.RIGHT:
                wrong.append('{kind} {number}: {name}: {outcome}'.format(**row))
                print(f'{wrong[-1]}: {row["said"][-300:]}', flush=True)
        figures[kind] = dict(
            seed=args.seed,
            outcomes=dict(sum(tally.values(), collections.Counter())),
            damage={name: counted(outcomes) for name, outcomes in sorted(tally.items())})
        print(f'{kind}: {counted(figures[kind]["outcomes"])}', flush=True)
    print(f'{time.time() - start:.0f} s')
    if args.json:
        before = json.loads(Path(args.json).read_text()) if Path(args.json).is_file() else {}
        write_json({**before, **figures}, args.json, indent=1)
    sys.exit(1 if wrong else 0)


def counted(outcomes: dict[str, int]) -> str:
    return ', '.join(f'{outcome} {count}' for outcome, count in sorted(outcomes.items()))


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
