"""Serves a web page that shows the prediction for a picture dropped on it; by default to this machine only."""

import argparse
import threading
from pathlib import Path

from mmreplk import InputError
from mmreplk.allocator import keep_freed_memory
from mmreplk.cli import add_trust_checkpoint, device, run
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.inference import Limits, Predictor, Windows, list_files, serve
from mmreplk.mm.trust import decide_trust


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file in training, merged or folded form')
    parser.add_argument('--examples', help='folder of pictures, of which the page offers the first six')
    parser.add_argument('--max-megabytes', type=float, default=20, help='largest file that is accepted')
    parser.add_argument('--max-megapixels', type=float, default=25, help='largest picture that is accepted')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on, 0.0.0.0 for every network')
    parser.add_argument('--port', type=int, help='port to listen on; default: the first free one from 7860 on')
    parser.add_argument('--title', help='title of the page; default: the name of the config')
    parser.add_argument('--slide', type=int, nargs=2, metavar=('CROP', 'STRIDE'),
                        help='predict in square windows of CROP pixels, STRIDE apart')
    parser.add_argument('--score', type=float, default=0.3, help='lowest score of detections that are drawn')
    parser.add_argument('--device', type=device, help='cpu, cuda:0, ...; default: the best available')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16'], default='float32',
                        help='what the network computes in; bfloat16 is faster on CPUs that have instructions for it')
    add_trust_checkpoint(parser)
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if args.examples and not Path(args.examples).is_dir():
        raise InputError(f'--examples must be a folder, {args.examples!r} is none')
    examples = list(list_files(Path(args.examples)))[:6] if args.examples else []
    cfg = load_config(args.config, args.cfg_options)
    decide_trust(cfg, args.trust_checkpoint)
    keep_freed_memory()
    windows = Windows.of(*args.slide) if args.slide else None
    predictor = Predictor(cfg, args.checkpoint, windows, device=args.device, least_score=args.score,
                          trusted=args.trust_checkpoint, dtype=args.dtype)
    limits = Limits(args.max_megabytes, args.max_megapixels)
    with serve(predictor, args.title or Path(args.config).stem, examples, limits, args.host, args.port) as url:
        print(f'The page is at {url} until Ctrl-C.', flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print('\nThe page is closed.')


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
