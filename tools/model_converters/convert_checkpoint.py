"""Shows what a checkpoint holds, from any of four sources, and writes it in the form that all tools here load."""

import argparse
import os

from mmreplk import InputError
from mmreplk.cli import add_trust_checkpoint, file_to_write, run
from mmreplk.weights import local_file, read_checkpoint
from mmreplk.weights.conversion import convert, describe


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='checkpoint of the official code, of mmpretrain, or of this package')
    parser.add_argument('out', type=file_to_write, nargs='?',
                        help='file to write; default: only show the checkpoint')
    parser.add_argument('--force', action='store_true', help='replace OUT if it exists')
    add_trust_checkpoint(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    saved = read_checkpoint(args.checkpoint, args.trust_checkpoint, mmap=True)
    if args.out and os.path.exists(args.out) and os.path.samefile(local_file(args.checkpoint), args.out):
        raise InputError(f'{args.out!r} is the checkpoint to read, and is never overwritten')
    try:
        for title, text in describe(saved).items():
            print(f'{title:<14} {text}')
        if args.out:
            convert(saved, args.out, args.force)
            print(f'{"written":<14} {args.out}')
    except InputError as error:
        raise InputError(f'checkpoint {args.checkpoint!r}: {error}') from error


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
