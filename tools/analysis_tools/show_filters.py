"""Draws the merged large kernels of a network, a page for each stage, and prints how far they reach."""

import argparse
from collections import defaultdict
from pathlib import Path

from mmreplk.cli import add_trust_checkpoint, folder_to_write, run
from mmreplk.io import write_json
from mmreplk.mm.building import build_backbone
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.trust import allow_pickles
from mmreplk.pictures.figures import draw_filters
from mmreplk.pictures.filters import filters_of


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; default: random weights')
    parser.add_argument('--out', type=folder_to_write, default='work_dirs/filters',
                        help='folder for the pages and their figures')
    parser.add_argument('--format', choices=['png', 'jpg', 'svg'], default='png', help='format of the pages')
    add_trust_checkpoint(parser)
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    allow_pickles(args.trust_checkpoint)
    backbone = build_backbone(load_config(args.config, args.cfg_options), args.checkpoint, args.trust_checkpoint).module
    stages, rows = defaultdict(list), []
    for layer in filters_of(backbone):
        stages[int(layer.name.split('.')[1]) + 1].append(layer)
        rows.append(layer.figures())
        print_row(rows[-1], with_head=len(rows) == 1)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    for stage, layers in stages.items():
        draw_filters(layers, f'Stage {stage}', out / f'stage{stage}.{args.format}')
    report = dict(config=args.config, checkpoint=args.checkpoint, layers=rows)
    write_json(report, out / 'filters.json', indent=1)
    print(f'{out}/filters.json and stage*.{args.format}')


def print_row(row: dict, with_head: bool) -> None:
    if with_head:
        print('| layer | kernel | centre | energy there: merged | large branch alone | if even | half within | 90 % '
              'within, taps |\n' + '| --- ' * 8 + '|')
    alone = '' if row['centre_share_of_large'] is None else f'{row["centre_share_of_large"]:.1%}'
    print(f'| {row["name"].removesuffix(".large_kernel")} | {row["kernel_size"]} | {row["centre"]} | '
          f'{row["centre_share"]:.1%} | {alone} | {row["centre_share_if_even"]:.1%} | {row["radius50"]:.1f} | '
          f'{row["radius90"]:.1f} |')


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
