"""Exports a trained segmentor, or the backbone and neck of a detector, merged and folded, for images of any size.

The result is compared with the training form in PyTorch, and is not written if it differs. The file takes pixels as
OpenCV decodes them, blue first, from 0 to 255: normalization is inside. The heads of detectors are not exported.
"""

import argparse
import os
from pathlib import Path

from mmreplk import InputError
from mmreplk.cli import add_trust_checkpoint, file_to_write, run
from mmreplk.io import write_whole
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.export import FORMATS, TOLERANCE, export, real_batches
from mmreplk.mm.trust import decide_trust
from mmreplk.weights import read_checkpoint


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint of the whole model, from training or merged')
    parser.add_argument('--out', type=file_to_write, required=True, help='file to write')
    parser.add_argument('--format', choices=FORMATS, help='format of the file; default: the suffix of OUT')
    parser.add_argument('--labels', action='store_true', help='for a segmentor: output labels instead of logits')
    parser.add_argument('--images', help='folder of pictures to compare on; default: noise')
    parser.add_argument('--shape', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'),
                        help='size of the image to export with, and of noise; the file takes other sizes too')
    parser.add_argument('--opset', type=int, default=20, help='operator set of ONNX')
    parser.add_argument('--transposed', type=int, metavar='K',
                        help='write depthwise convolutions of KxK as transposed ones with the flipped filter: the same '
                        'function; OpenVINO computes 13x13 faster so, ONNX Runtime slower')
    parser.add_argument('--tolerance', type=float, default=TOLERANCE,
                        help='largest difference from the model that is allowed, relative to the largest value')
    parser.add_argument('--force', action='store_true', help='replace OUT if it exists')
    add_trust_checkpoint(parser)
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if os.path.exists(args.out) and not args.force:
        raise InputError(f'{args.out!r} exists; --force replaces it')
    if args.opset < 1:
        raise InputError(f'--opset must be positive, got {args.opset}')
    form = args.format or Path(args.out).suffix.removeprefix('.')
    cfg = load_config(args.config, args.cfg_options)
    decide_trust(cfg, args.trust_checkpoint)
    batches = real_batches(args.images, channels=cfg.model.backbone.get('in_channels', 3)) if args.images else None
    saved = read_checkpoint(args.checkpoint, args.trust_checkpoint)
    exported = export(cfg, saved, args.checkpoint, form, args.labels, args.opset, tuple(args.shape), batches,
                      args.tolerance, args.transposed)
    write_whole(exported.data, args.out)
    print(f'{args.out}: {", ".join(exported.metadata["outputs"])}; {len(exported.data) / 2**20:.1f} MiB. Largest '
          f'difference from the training form, relative to the largest value, on '
          f'{"pictures" if args.images else "noise"}:')
    for shape, difference in exported.checks:
        print(f'  {difference:.1e} on {"x".join(map(str, shape))}')


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
