"""Quantizes an exported ONNX network to 8-bit integers, with ranges found on pictures of the config's training data."""

import argparse
import os

from mmreplk import InputError
from mmreplk.cli import file_to_write, run
from mmreplk.io import write_whole
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.export.quantization import METHODS, quantize, training_images
from mmreplk.mm.trust import decide_trust


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of the model')
    parser.add_argument('onnx', help='file that tools/deployment/export.py wrote')
    parser.add_argument('out', type=file_to_write, help='file to write')
    parser.add_argument('--images', type=int, default=32,
                        help='number of training pictures that ranges are measured on')
    parser.add_argument('--method', choices=METHODS, default='minmax', help='how ranges are found')
    parser.add_argument('--float', nargs='+', default=[], metavar='PATTERN',
                        help='names of nodes that stay in float32, such as "*large_kernel*"')
    parser.add_argument('--force', action='store_true', help='replace OUT if it exists')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if os.path.exists(args.out) and not args.force:
        raise InputError(f'{args.out!r} exists; --force replaces it')
    if args.images < 1:
        raise InputError(f'--images must be at least 1, got {args.images}')
    cfg = load_config(args.config, args.cfg_options)
    decide_trust(cfg)
    data = quantize(args.onnx, training_images(cfg, args.images), args.method, args.float)
    write_whole(data, args.out)
    print(f'{args.out}: {len(data) / 2**20:.1f} MiB, from {os.path.getsize(args.onnx) / 2**20:.1f}. To see what '
          f'it loses: tools/deployment/test_onnx.py {args.config} {args.onnx} {args.out}')


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
