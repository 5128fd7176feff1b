"""Trains a segmentor or a detector."""

import argparse
import os

from mmreplk.cli import add_trust_checkpoint, folder_to_write, run
from mmreplk.mm.checks import check_before_training
from mmreplk.mm.config import add_cfg_options, add_launcher, config_errors, load_config, prepare_training
from mmreplk.mm.rehearsal import rehearse
from mmreplk.mm.runner import build_runner
from mmreplk.mm.trust import decide_trust


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', type=folder_to_write, help='folder for logs and checkpoints')
    parser.add_argument(
        '--resume', nargs='?', const='auto', help='continue from this checkpoint, or from the last one of the work dir')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help="scale the learning rate to auto_scale_lr's base batch size")
    parser.add_argument('--no-rehearsal', action='store_true', help='skip the rehearsal on two samples before '
                        'training, which finds in seconds what would fail at the first validation')
    parser.add_argument('--verbose', action='store_true',
                        help='also print environment and config, which the log file always has')
    add_trust_checkpoint(parser)
    add_cfg_options(parser)
    add_launcher(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
    args.work_dir = cfg.work_dir
    decide_trust(cfg, args.trust_checkpoint)
    prepare_training(cfg, args.amp, args.auto_scale_lr, args.resume)
    check_before_training(cfg, args.trust_checkpoint)
    if not args.no_rehearsal:
        rehearse(cfg)
    with config_errors(cfg):
        build_runner(cfg, args.verbose).train()


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments), lambda: arguments.work_dir)
