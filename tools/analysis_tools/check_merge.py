"""Measures what merging a RepLKNet changes on real pictures: in each large-kernel layer, and in the features."""

import argparse
from pathlib import Path

import torch
from mmengine.utils import track_iter_progress

from mmreplk.benchmarks import environment
from mmreplk.benchmarks.flops import image_channels
from mmreplk.cli import add_trust_checkpoint, device, folder_to_write, run
from mmreplk.io import write_json
from mmreplk.mm.building import build_backbone
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.trust import allow_pickles
from mmreplk.pictures import ImageFolder
from mmreplk.pictures.figures import draw_differences
from mmreplk.pictures.merge_differences import merge_differences


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='training checkpoint')
    parser.add_argument('--images', required=True, help='folder of pictures to compare on')
    parser.add_argument('--count', type=int, default=8, help='largest number of pictures, evenly chosen')
    parser.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'),
                        help='resize pictures to this; default: their own size')
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--out', type=folder_to_write, default='work_dirs/merge',
                        help='folder for the figures and the plot')
    add_trust_checkpoint(parser)
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    allow_pickles(args.trust_checkpoint)
    module, preprocessor = build_backbone(load_config(args.config, args.cfg_options), args.checkpoint,
                                          args.trust_checkpoint)
    images = ImageFolder(args.images, args.count, preprocessor.to(args.device), args.shape and tuple(args.shape),
                         image_channels(module))
    differences = merge_differences(module.to(args.device), track_iter_progress(images))
    print('| | largest difference | relative to the largest value |\n| --- | --- | --- |')
    for row in differences['layers']:
        print_row(f'{row["name"]}, {row["kernel_size"]}x{row["kernel_size"]}', row)
    for row in differences['features']:
        print_row(f'features of stage {row["stage"] + 1}, {row["form"]}', row)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    report = dict(environment=environment(args.device), config=args.config, checkpoint=args.checkpoint,
                  images=args.images, count=len(images), shape=args.shape, **differences)
    write_json(report, out / 'merge.json', indent=1)
    draw_differences(differences, out / 'merge.png')
    print(f'{out}/merge.json and merge.png')


def print_row(name: str, row: dict) -> None:
    print(f'| {name} | {row["max_abs"]:.1e} | {row["max_rel"]:.1e} |')


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
