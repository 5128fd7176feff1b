"""Draws a small dataset in ADE20K's layout or in COCO's format, for trying things out without a download."""

import argparse

from mmreplk.cli import folder_to_write, run
from mmreplk.mm.data import make_mini_ade20k, make_mini_coco, make_mini_surroundings

KINDS = dict(ade20k=make_mini_ade20k, surroundings=make_mini_surroundings, coco=make_mini_coco)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument('kind', choices=KINDS)
    parser.add_argument('root', type=folder_to_write, help='folder to make, for example data/mini_ade20k')
    parser.add_argument('--num-train', type=int, help='training pictures; 400 (ade20k) or 300 by default')
    parser.add_argument('--num-val', type=int, help='validation pictures; 40 (coco) or 60 by default')
    parser.add_argument('--size', type=int, help='height and width in pixels; 256 (surroundings) or 128 by default')
    parser.add_argument('--seed', type=int, help='seed of the random generator; 0 by default')
    return parser.parse_args()


def main(kind: str, **options: str | int) -> None:
    print(f'{KINDS[kind](**options)} is drawn')


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(**vars(arguments)))
