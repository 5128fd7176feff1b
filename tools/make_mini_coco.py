"""Draws a small dataset in COCO's format, to try a detector on without downloading anything."""

import argparse

from mmreplk.datasets import make_mini_coco
from mmreplk.engine import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('root', help='folder to make, for example data/mini_coco')
    parser.add_argument('--num-train', type=int, default=300, help='training pictures')
    parser.add_argument('--num-val', type=int, default=40, help='validation pictures')
    parser.add_argument('--size', type=int, default=128, help='height and width in pixels')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    root = make_mini_coco(args.root, args.num_train, args.num_val, args.size, args.seed)
    print(f'{root}: {args.num_train} training and {args.num_val} validation pictures')


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
