"""Evaluates a segmentor (mIoU) or a detector (mAP)."""

import argparse
import os

from mmreplk.allocator import keep_freed_memory
from mmreplk.cli import add_trust_checkpoint, file_to_write, folder_to_write, run
from mmreplk.mm.checks import check_before_testing
from mmreplk.mm.config import add_cfg_options, add_launcher, config_errors, load_config, prepare_testing
from mmreplk.mm.runner import build_runner
from mmreplk.mm.trust import decide_trust


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', type=folder_to_write, help='folder for logs and metrics')
    parser.add_argument('--out', type=predictions_to_write,
                        help='folder for predictions; or, for a detector, a .pkl file')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', type=folder_to_write, help='save pictures of predictions in this folder')
    parser.add_argument('--wait-time', type=float, default=2, help='how many seconds --show waits for each picture')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16'], default='float32',
                        help='what the network computes in; bfloat16 is faster on CPUs that have instructions for it')
    parser.add_argument('--verbose', action='store_true',
                        help='also print environment and config, which the log file always has')
    add_trust_checkpoint(parser)
    add_cfg_options(parser)
    add_launcher(parser)
    return parser.parse_args()


def predictions_to_write(name: str) -> str:
    return (file_to_write if name.endswith(('.pkl', '.pickle')) else folder_to_write)(name)


def main(args: argparse.Namespace) -> None:
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args.config, args.cfg_options, args.work_dir, args.launcher)
    prepare_testing(cfg, args.checkpoint, args.show, args.show_dir, args.wait_time, args.tta, args.out,
                    args.dtype)
    decide_trust(cfg, args.trust_checkpoint)
    check_before_testing(cfg, args.trust_checkpoint)
    keep_freed_memory()
    with config_errors(cfg):
        build_runner(cfg, args.verbose).test()


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
