"""Turns a training checkpoint into one for deployment: merges large kernels and, if asked, folds BatchNorms."""

import argparse
import os

from mmreplk import InputError
from mmreplk.cli import add_trust_checkpoint, file_to_write, run
from mmreplk.weights import local_file, read_checkpoint, write_checkpoint
from mmreplk.weights.conversion import reparameterize_checkpoint


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='training checkpoint of a backbone, segmentor or detector')
    parser.add_argument('out', type=file_to_write, help='file to write; load it with model.backbone.deploy=True')
    parser.add_argument('--fuse-bn', action='store_true',
                        help='also fold all BatchNorms of the backbone; load with model.backbone.fuse_bn=True too')
    parser.add_argument('--half', action='store_true', help='store float16, which takes half the space')
    parser.add_argument('--ema', action='store_true', help='take the averaged weights')
    parser.add_argument('--eps', type=float, default=1e-5, help='epsilon of the BatchNorms that were trained')
    parser.add_argument('--force', action='store_true', help='replace OUT if it exists')
    add_trust_checkpoint(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if not 0 <= args.eps < 1:
        raise InputError(f'--eps must be from 0 to 1, got {args.eps}')
    saved = read_checkpoint(args.checkpoint, args.trust_checkpoint)
    if os.path.exists(args.out) and os.path.samefile(local_file(args.checkpoint), args.out):
        raise InputError(f'{args.out!r} is the checkpoint to read, and is never overwritten')
    try:
        merged = reparameterize_checkpoint(saved, args.fuse_bn, args.ema, args.eps, args.half)
    except InputError as error:
        raise InputError(f'checkpoint {args.checkpoint!r}: {error}') from error
    write_checkpoint(merged, args.out, args.force)
    print(f'{args.out}: {merged["meta"]["reparameterized"]}, {len(merged["state_dict"])} tensors; load it with '
          f'model.backbone.deploy=True{" model.backbone.fuse_bn=True" if args.fuse_bn else ""}')


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
