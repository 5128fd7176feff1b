"""Draws image, ground truth and prediction side by side, from what tools/test.py --out wrote."""

import argparse
from pathlib import Path

import cv2
from mmengine.registry import DATASETS, init_default_scope

from mmreplk.cli import run
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.trust import decide_trust
from mmreplk.pictures import contact_sheet, instance_sheet


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, for its test dataset')
    parser.add_argument('predictions', help='folder of label maps, or of the masks of a detector')
    parser.add_argument('out', help='picture to write')
    parser.add_argument('--count', type=int, default=6, help='number of rows')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, args.cfg_options)
    decide_trust(cfg)
    init_default_scope(cfg.default_scope)
    draw = instance_sheet if cfg.default_scope == 'mmdet' else contact_sheet
    sheet = draw(DATASETS.build(cfg.test_dataloader.dataset), args.predictions, args.count)
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(args.out, sheet)


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
