"""Runs the official RepLKNet, SLaK and UniRepLKNet code on the stand-in for their CUDA extension, and times it.

It needs timm, which that code imports, and checkouts of github.com/DingXiaoH/RepLKNet-pytorch, VITA-Group/SLaK and
AILab-CVC/UniRepLKNet. Each network is built twice from its unchanged file: on the stand-in, and on a module of the same
name with torch.nn.Conv2d. With ``--json``, an interrupted run continues when the same command is called again.
"""

import argparse
import importlib.util
import os
import sys
import types
from pathlib import Path

import torch
from torch import nn

from mmreplk import InputError
from mmreplk.benchmarks import Kept, environment
from mmreplk.benchmarks.acceleration import compare, fill
from mmreplk.cli import file_to_write, run
from mmreplk.stand_in import stand_in_path

MODULE, CLASS = 'depthwise_conv2d_implicit_gemm', 'DepthWiseConv2dImplicitGEMM'
DTYPES = (torch.float32, torch.bfloat16)
# By network: file, function, its arguments.
NETWORKS = {
    'RepLKNet-31B': ('replknet.py', 'create_RepLKNet31B', dict(use_checkpoint=False)),
    'SLaK-T': ('models/SLaK.py', 'SLaK_tiny', dict(width_factor=1.3, Decom=True)),
    'UniRepLKNet-T': ('unireplknet.py', 'unireplknet_t', {}),
}


class PlainConv2d(nn.Conv2d):
    """What the extension computes, in PyTorch."""

    def __init__(self, channels, kernel, bias=False):
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        super().__init__(channels, channels, kernel, padding=(height // 2, width // 2), groups=channels, bias=bias)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folders', nargs=3, type=Path, help='checkouts of RepLKNet-pytorch, SLaK and UniRepLKNet')
    parser.add_argument('--size', type=int, default=224, help='height and width of the images, in pixels')
    parser.add_argument('--batch', type=int, default=2, help='batch size')
    parser.add_argument('--rounds', type=int, default=5, help='how many times each is timed')
    parser.add_argument('--json', type=file_to_write, help='file for the raw figures')
    return parser.parse_args()


def build(file: Path, function: str, arguments: dict, module: types.ModuleType | None) -> nn.Module:
    """Builds a network from an official ``file`` with ``module`` as the extension; None means the stand-in on the path.
    """
    sys.modules.pop(MODULE, None)
    if module is not None:
        sys.modules[MODULE] = module
    spec = importlib.util.spec_from_file_location(file.stem, file)
    official = sys.modules[file.stem] = importlib.util.module_from_spec(spec)  # where timm looks for it
    spec.loader.exec_module(official)
    return getattr(official, function)(**arguments)


def main(args: argparse.Namespace) -> None:
    if min(args.size, args.batch, args.rounds) < 1:
        raise InputError(f'size, batch and rounds must be positive, got {args.size}, {args.batch} and {args.rounds}')
    for folder, (file, *_) in zip(args.folders, NETWORKS.values(), strict=True):
        if not (folder / file).is_file():
            raise InputError(f'{str(folder)!r} is not a checkout of the official repository: it has no {file}')
    kept = Kept(args.json, dict(environment=environment('cpu'), rounds=args.rounds))
    plain_module = types.ModuleType(MODULE)
    setattr(plain_module, CLASS, PlainConv2d)
    os.environ['LARGE_KERNEL_CONV_IMPL'] = stand_in_path()  # where RepLKNet looks; the others look on Python's path
    sys.path.append(stand_in_path())
    for folder, (name, (file, function, arguments)) in zip(args.folders, NETWORKS.items(), strict=True):
        setting = dict(model=name, batch=args.batch, size=[args.size, args.size])
        missing = [dtype for dtype in DTYPES if not kept.measured(**setting, dtype=str(dtype).removeprefix('torch.'))]
        if not missing:
            continue
        images = torch.randn(args.batch, 3, args.size, args.size)
        plain = fill(build(folder / file, function, arguments, plain_module), images)
        fast = build(folder / file, function, arguments, None)
        layers = sum(type(module).__name__ == CLASS for module in fast.modules())
        assert layers == sum(type(module) is PlainConv2d for module in plain.modules()) > 0
        for dtype in missing:
            rows = compare(plain.to(dtype), fast.to(dtype), images.to(dtype), args.rounds)
            kept.add(dict(model=name, layers=layers, **row) for row in rows)
            for row in rows:
                print(name, layers, {key: row[key] for key in ('work', 'dtype', 'ratio', 'errors')}, flush=True)


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
