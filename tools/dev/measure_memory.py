"""Measures the peak memory of training and evaluating segmentors on the CPU, each in a process of its own.

``slide`` evaluates with windows of 512x512 at steps of 341 pixels, and exits with 1 if that takes more than the bound.
``--cycles N`` merges, evaluates and restores N times instead, and exits with 1 if memory grows.
"""

import argparse
import gc
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from growth import growth
from mmengine.config import Config

from mmreplk import InputError
from mmreplk.benchmarks import Kept, environment
from mmreplk.benchmarks.measure import resident_mib
from mmreplk.cli import file_to_write, run
from mmreplk.mm.benchmarks.memory import (
    WORKS,
    build_segmentor,
    evaluation,
    labelled_batch,
    measure_memory,
    slide_bound_mib,
)
from mmreplk.mm.config import add_cfg_options, load_config

WINDOW, STRIDE = (512, 512), (341, 341)
# By how much each may grow over all cycles: less than a small tensor, or one object, in every cycle.
LIMITS = dict(memory_mib=4, objects=100)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='config files of segmentors')
    parser.add_argument('--work', nargs='+', choices=WORKS, default=WORKS[:3], help='what to measure')
    parser.add_argument(
        '--size', type=int, nargs=2, action='append', metavar=('H', 'W'), help='pixels of an image; default 512 512')
    parser.add_argument('--train-batch', type=int, default=2, help='images in a training step; default %(default)s')
    parser.add_argument('--cycles', type=int, help='measure growth of memory over this many evaluations instead')
    parser.add_argument('--json', type=file_to_write, help='file for the figures')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    sizes = [tuple(size) for size in args.size or [(512, 512)]]
    if min(min(size) for size in sizes) < 1 or args.train_batch < 1 or (args.cycles is not None and args.cycles < 10):
        raise InputError(f'sizes and batch must be positive, and cycles at least 10, got {sizes}, {args.train_batch} '
                         f'and {args.cycles}')
    kept = Kept(args.json, dict(environment=environment('cpu')))
    measure = cycles if args.cycles else peaks
    for config in args.configs:
        measure(config, args, sizes, kept)
    sys.exit(0 if all(row['is_within'] for row in kept.rows) else 1)


def peaks(config: str, args: argparse.Namespace, sizes: list[tuple[int, int]], kept: Kept) -> None:
    """Measures all kinds of work with one config."""
    cfg = load_config(config, args.cfg_options)
    cfg.model.test_cfg = dict(mode='whole')
    window = in_a_process(measure_memory, cfg, 'evaluate', WINDOW)['extra'] if 'slide' in args.work else None
    for size in sizes:
        for work in args.work:
            batch = args.train_batch if work.startswith('train') else 1
            if kept.measured(config=config, work=work, size=size, batch=batch):
                continue
            cfg.model.test_cfg = dict(mode='slide', crop_size=WINDOW, stride=STRIDE) if work == 'slide' else \
                dict(mode='whole')
            row = in_a_process(measure_memory, cfg, work, size, batch)
            bound = slide_bound_mib(size, cfg.model.decode_head.num_classes, window) if work == 'slide' else None
            kept.add([dict(config=config, work=work, size=size, batch=batch, bound=bound,
                           is_within=bound is None or row['extra'] <= bound, **row)])
            print(f'{config}, {work}, {size[0]}x{size[1]}, {batch} a batch: weights {row["weights"]:.0f} MiB, '
                  f'{row["extra"]:.0f} MiB more{"" if bound is None else f" of {bound:.0f} allowed"}; '
                  f'the whole process {row["peak"]:.0f} MiB', flush=True)


def cycles(config: str, args: argparse.Namespace, sizes: list[tuple[int, int]], kept: Kept) -> None:
    """Measures how much memory grows when one config is evaluated many times."""
    for size in sizes:
        if kept.measured(config=config, size=size, cycles=args.cycles):
            continue
        rows = in_a_process(evaluation_cycles, load_config(config, args.cfg_options), size, args.cycles)
        found = {name: growth([row['cycle'] for row in rows], [row[name] for row in rows], limit)
                 for name, limit in LIMITS.items()}
        print(f'{config}, {args.cycles} evaluations of {size[0]}x{size[1]}: ' + ', '.join(
            f'{name} {one.median:.0f} {one.growth:+.2f}' for name, one in found.items()), flush=True)
        kept.add([dict(config=config, size=size, cycles=args.cycles, rows=rows,
                       is_within=all(one.is_flat for one in found.values()),
                       growth={name: one._asdict() for name, one in found.items()})])


def evaluation_cycles(cfg: Config, size: tuple[int, int], cycles: int, every: int = 10) -> list[dict[str, float]]:
    """Merges, evaluates and restores one model many times; returns what the process held after each ``every`` cycles.

    Returns:
        Rows of ``cycle``, ``memory_mib`` and ``objects``, the number of Python objects with references.
    """
    model, data, rows = build_segmentor(cfg).train(), labelled_batch(cfg, size, 1), []
    evaluate = evaluation(model, data)
    for cycle in range(1, cycles + 1):
        evaluate()
        model.train()
        if cycle % every == 0:
            gc.collect()
            rows.append(dict(cycle=cycle, memory_mib=resident_mib(), objects=len(gc.get_objects())))
    return rows


def in_a_process(function: Callable, *arguments: Any) -> Any:
    """Returns what ``function`` returns in a fresh process, whose memory is its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
