"""Draws image, ground truth and prediction side by side, from what tools/test.py --out wrote."""

import argparse
from pathlib import Path

import cv2
from mmengine.registry import DATASETS, init_default_scope

from mmreplk import InputError
from mmreplk.cli import file_to_write, run
from mmreplk.io import write_whole
from mmreplk.mm.checks import check_data
from mmreplk.mm.config import add_cfg_options, config_errors, load_config
from mmreplk.mm.data.reading import PipelineReader, pipeline_of, shown
from mmreplk.mm.trust import decide_trust
from mmreplk.pictures import contact_sheet, instance_sheet


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, for its test dataset')
    parser.add_argument('predictions', help='folder of label maps, or of the masks of a detector')
    parser.add_argument('out', type=file_to_write, help='picture to write')
    parser.add_argument('--count', type=int, default=6, help='number of rows')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    suffix = Path(args.out).suffix.lower()
    if not cv2.haveImageWriter(f'x{suffix}'):
        raise InputError(f'{args.out!r} must end as a picture that OpenCV writes, such as .png, got {suffix!r}')
    cfg = load_config(args.config, args.cfg_options)
    decide_trust(cfg)
    init_default_scope(cfg.default_scope)
    draw = instance_sheet if cfg.default_scope == 'mmdet' else contact_sheet
    check_data(cfg, 'test_dataloader')
    with config_errors(cfg):
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        read = PipelineReader(pipeline_of(cfg.test_dataloader.dataset))
    sheet = draw(dataset, args.predictions, args.count, lambda path: shown(read(path)))
    write_whole(cv2.imencode(suffix, sheet)[1].tobytes(), args.out)


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
