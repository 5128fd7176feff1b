"""Checks the data of a config: the number of images, missing and unreadable files, sizes, labels, boxes."""

import argparse

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from mmreplk import InputError
from mmreplk.cli import run
from mmreplk.mm.checks import check_coco, check_data, check_segmentation
from mmreplk.mm.checks.coco_file import read_coco
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.trust import decide_trust


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--sample', type=int, default=200, help='how many images of a split are opened')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, args.cfg_options)
    decide_trust(cfg)
    init_default_scope(cfg.default_scope)
    seen, problems = [], 0
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader is None or loader.dataset in seen:
            continue
        seen.append(loader.dataset)
        check_data(cfg, f'{split}_dataloader')
        count, found = check_split(loader.dataset, args.sample)
        expected = cfg.get('data_counts', {}).get(split, count)
        if count != expected:
            found.insert(0, f'{count} images, expected {expected}')
        print(f'{split}: {count} images, ' + ('as they should be' if not found else f'{len(found)} problems'))
        for problem in found:
            print(f'  {problem}')
        problems += len(found)
    if problems:
        raise InputError(f'{problems} problems in the data of {args.config}, listed above')


def check_split(dataset: Config, sample: int) -> tuple[int, list[str]]:
    """Returns the number of images and what is wrong with them."""
    built = DATASETS.build(dict(dataset, lazy_init=True))
    if 'ann_file' in dataset and built.ann_file.endswith('.json'):
        try:
            labels = read_coco(built.ann_file)
        except InputError as error:
            return 0, [str(error)]
        problems = check_coco(labels, built.data_prefix['img'], built.metainfo['classes'], sample)
        return len(labels['images']), list(problems)
    built.full_init()
    return len(built), list(check_segmentation(built, sample))


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
