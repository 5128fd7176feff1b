"""Checks the data of a config: the number of images, missing and unreadable files, sizes, labels, boxes."""

import argparse

from mmengine.registry import init_default_scope

from mmreplk import InputError
from mmreplk.cli import run
from mmreplk.mm.checks import check_data, check_split
from mmreplk.mm.config import add_cfg_options, config_errors, load_config
from mmreplk.mm.trust import decide_trust


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--sample', type=int, default=200, help='how many images of each split are opened')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if args.sample < 1:
        raise InputError(f'--sample must be at least 1, got {args.sample}')
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
        with config_errors(cfg):
            count, found, notes = check_split(loader.dataset, args.sample)
        expected = (cfg.get('data_counts') or {}).get(split, count)
        if count != expected:
            found.insert(0, f'{count} images, expected {expected}')
        print(f'{split}: {count} images, ' + ('as they should be' if not found else f'{len(found)} problems'))
        for sentence in (*found, *notes):
            print(f'  {sentence}')
        problems += len(found)
    if problems:
        raise InputError(f'{problems} problems in the data of {args.config}, listed above')


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
