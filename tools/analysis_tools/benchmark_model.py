"""Times a network in training form, merged, folded, and with all kernels 3x3, in one run; training steps too.

``ratio`` compares with the first form: ``plain``, the training form on torch.nn.Conv2d, unless ``--forms`` says
otherwise. ``share`` is the part of the time that is spent
in the large-kernel layers. With ``--json``, an interrupted run continues when the same command is called again.
"""

import argparse
import itertools

import torch
from mmengine.config import Config

from mmreplk.allocator import keep_freed_memory
from mmreplk.benchmarks import Kept, environment
from mmreplk.benchmarks.runtimes import RUNTIMES, versions
from mmreplk.cli import device, file_to_write, run
from mmreplk.io import markdown_table
from mmreplk.mm.benchmarks.model import FORMS, PACKED, PARTS, STEP, benchmark_model, benchmark_training
from mmreplk.mm.benchmarks.setting import Setting
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.trust import decide_trust
from mmreplk.weights import read_checkpoint


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint in training form; default: random weights')
    parser.add_argument('--size', type=int, nargs=2, default=(512, 512), metavar=('H', 'W'), help='pixels of an image')
    parser.add_argument('--batch', type=int, nargs='+', default=[1], help='batch sizes')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default='float32')
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--channels-last', action='store_true', help='measure channels-last too, beside NCHW')
    parser.add_argument('--compile', action='store_true', help='measure the compiled backbone too, beside eager')
    parser.add_argument('--train', action='store_true',
                        help='measure training steps too, for batches of 2 images or more')
    parser.add_argument('--no-inference', action='store_true', help='with --train, measure training steps only')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=PARTS, help='what is measured at inference')
    parser.add_argument('--forms', nargs='+', choices=FORMS + PACKED,
                        help='forms to measure at inference; default: all, the packed ones on CPUs')
    parser.add_argument('--rivals', nargs='+', choices=list(RUNTIMES), default=[],
                        help='runtimes that run the exported network too, also with 3x3 kernels')
    parser.add_argument('--rounds', type=int, default=5, help='how many times each is timed')
    parser.add_argument('--json', type=file_to_write, help='file for the raw figures')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, args.cfg_options)
    decide_trust(cfg)
    keep_freed_memory()
    weights = read_checkpoint(args.checkpoint)['state_dict'] if args.checkpoint else None
    head = dict(environment=environment(args.device), config=args.config, checkpoint=args.checkpoint,
                runtimes=versions() if args.rivals else None,
                options={key: repr(value) for key, value in (args.cfg_options or {}).items()}, rounds=args.rounds)
    kept = Kept(args.json, head)
    columns = ('batch', 'layout', 'eager', 'part', 'form', 'median ms', '20 %', '80 %', 'images/s', 'ratio', 'share',
               'peak MiB')
    print(markdown_table(columns), end='')
    for batch, channels_last, compiled in itertools.product(
            args.batch, [False, True][:1 + args.channels_last], [False, True][:1 + args.compile]):
        measured = dict(batch=batch, size=args.size, dtype=args.dtype, channels_last=channels_last, compiled=compiled)
        setting = Setting(tuple(args.size), batch, getattr(torch, args.dtype), args.device, channels_last, compiled,
                          args.rounds)
        for part in (*([] if args.no_inference else args.parts), *([STEP] if args.train and batch > 1 else [])):
            if not kept.measured(part=part, **measured):
                kept.add(measure(part, cfg, setting, weights, measured, args.forms, args.rivals))
            for row in kept.measured(part=part, **measured):
                print_row(row)


def measure(part: str, cfg: Config, setting: Setting, weights: dict | None, measured: dict, forms: list[str] | None,
            rivals: list[str]) -> list[dict]:
    if part == STEP:
        rows = benchmark_training(cfg, setting)
    else:
        rows = benchmark_model(cfg, setting, weights, [part], forms, [] if setting.compiled else rivals)
    first = rows[0]['median_ms']
    return [dict(row, ratio=row['median_ms'] / first, **measured) for row in rows]


def print_row(row: dict) -> None:
    share, peak = row['large_kernel_share'], row['peak_mib']
    print(f'| {row["batch"]} | {"channels_last" if row["channels_last"] else "NCHW"} | '
          f'{"compiled" if row["compiled"] else "eager"} | {row["part"]} | {row["form"]} | {row["median_ms"]:.1f} | '
          f'{row["percentile20_ms"]:.1f} | {row["percentile80_ms"]:.1f} | {row["images_per_s"]:.2f} | '
          f'{row["ratio"]:.3f} | {"" if share is None else f"{share:.1%}"} | '
          f'{"" if peak is None else f"{peak:.0f}"} |', flush=True)


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
