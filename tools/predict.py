"""Predicts pictures and videos: writes raw results, and pictures and videos with the predictions drawn over them."""

import argparse
import sys
import time

from mmreplk import InputError
from mmreplk.allocator import keep_freed_memory
from mmreplk.cli import add_trust_checkpoint, device, folder_to_write, run
from mmreplk.mm.checkpoints import last_checkpoint
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.inference import Predictor, Windows, check_new, find_jobs, predict_files, prediction_type
from mmreplk.mm.trust import decide_trust
from mmreplk.weights import STREETS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('images', nargs='+', help='pictures, videos, and folders of them')
    parser.add_argument('--model', metavar='CONFIG',
                        help='config file, or the name of one in the package; default: the model of street scenes that '
                        'comes with the package')
    parser.add_argument('--checkpoint',
                        help='checkpoint in training, merged or folded form, a file or a name; default: the last one '
                        'in the work dir of the config')
    parser.add_argument('--out', type=folder_to_write, default='predictions', help='folder for the results')
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument('--force', action='store_true', help='replace existing results')
    existing.add_argument('--skip-existing', action='store_true', help='keep existing results and predict the rest')
    parser.add_argument('--batch-size', type=int, default=1, help='how many pictures or windows the model sees at once')
    parser.add_argument('--slide', type=int, nargs=2, metavar=('CROP', 'STRIDE'),
                        help='predict in square windows of CROP pixels, STRIDE apart')
    parser.add_argument('--opacity', type=float, default=0.5, help='opacity of predictions over pictures, 0 to 1')
    parser.add_argument('--score', type=float, default=0.3, help='lowest score of detections that are drawn')
    parser.add_argument('--device', type=device, help='cpu, cuda:0, ...; default: the best available')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16'], default='float32',
                        help='what the network computes in; bfloat16 is faster on CPUs that have instructions for it')
    add_trust_checkpoint(parser)
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if not 0 <= args.opacity <= 1:
        raise InputError(f'--opacity must be from 0 to 1, got {args.opacity}')
    windows = Windows.of(*args.slide) if args.slide else None
    if args.model is None and args.checkpoint is not None:
        raise InputError(f'--checkpoint {args.checkpoint} needs --model, the config that it belongs to')
    cfg = load_config(args.model or STREETS.config, args.cfg_options)
    checkpoint = STREETS.name if args.model is None else args.checkpoint or last_checkpoint(cfg.work_dir)
    decide_trust(cfg, args.trust_checkpoint)
    jobs = check_new(find_jobs(args.images, args.out, prediction_type(cfg).suffix), args.force, args.skip_existing)
    keep_freed_memory()
    predictor = Predictor(cfg, checkpoint, windows, args.batch_size, args.device, args.score, args.trust_checkpoint,
                          args.dtype)
    start = time.time()
    failures = predict_files(predictor, jobs, args.out, args.opacity, args.force)
    print(f'{len(jobs) - len(failures)} of {len(jobs)} files predicted in {time.time() - start:.1f} s: '
          f'{args.out}/overlays, {args.out}/raw')
    if failures:
        raise InputError('\n  '.join([f'{len(failures)} files could not be predicted:', *failures.values()]))


if __name__ == '__main__':
    arguments = parse_args()
    try:
        run(lambda: main(arguments))
    except SystemExit as end:
        if end.code == 130:
            print('Every file written so far is whole; --skip-existing continues with the rest.', file=sys.stderr)
        raise
