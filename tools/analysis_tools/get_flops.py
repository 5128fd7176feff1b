"""Counts the parameters and multiply-adds of segmentors and detectors, as mmreplk.benchmarks.count_flops does."""

import argparse

from mmreplk import reparameterize
from mmreplk.benchmarks import count_flops
from mmreplk.cli import file_to_write, run
from mmreplk.io import write_json
from mmreplk.mm.building import build_empty_model
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.trust import decide_trust


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'), help='image in pixels; default 512 2048 for '
                        'a segmentor, 800 1280 for a detector')
    parser.add_argument('--merged', action='store_true', help='count the backbone as it is evaluated, not as it is '
                        'trained')
    parser.add_argument('--json', type=file_to_write, help='file for the figures')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, args.cfg_options)
    decide_trust(cfg)
    shape = args.shape or ([800, 1280] if cfg.get('default_scope') == 'mmdet' else [512, 2048])
    model = build_empty_model(cfg)
    if args.merged:
        reparameterize(model.backbone)
    figures = count_flops(model, tuple(shape))
    for name, part in dict(figures['parts'], total=figures).items():
        print(f'{name:<16}{part["params"] / 1e6:>10.2f} M parameters{part["flops"] / 1e9:>12.2f} G multiply-adds')
    print(f'image of {shape[0]}x{shape[1]} pixels, height x width')
    if args.json:
        write_json(dict(config=args.config, **figures), args.json, indent=1)


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
