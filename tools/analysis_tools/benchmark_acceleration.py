"""Times models of timm and backbones of MM configs as they are and accelerated, in inference and in training."""

import argparse
import copy
from pathlib import Path

import torch
from torch import nn

from mmreplk import InputError, accelerate
from mmreplk.benchmarks import environment
from mmreplk.benchmarks.acceleration import compare, fill
from mmreplk.cli import file_to_write, run
from mmreplk.io import write_json


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='+', help='names that timm knows, or config files of MM, whose backbone it is')
    parser.add_argument('--size', type=int, nargs=2, default=(224, 224), metavar=('H', 'W'), help='pixels of an image')
    parser.add_argument('--batch', type=int, default=2, help='images at a time')
    parser.add_argument('--dtype', nargs='+', choices=['float32', 'bfloat16'], default=['float32'])
    parser.add_argument('--rounds', type=int, default=5, help='how often each is timed')
    parser.add_argument('--json', type=file_to_write, help='file for the raw figures')
    return parser.parse_args()


def build(name: str) -> tuple[str, nn.Module]:
    """Returns what a table calls a model, and the model with fresh weights."""
    if not name.endswith('.py'):
        import timm

        return f'{name} (timm)', timm.create_model(name)
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    cfg = Config.fromfile(name)
    init_default_scope(cfg.default_scope)
    backbone = dict(cfg.model.backbone, init_cfg=None)
    return f'{backbone["type"]} ({Path(name).stem})', MODELS.build(backbone)


def main(args: argparse.Namespace) -> None:
    report = dict(environment=environment('cpu'), results=[])
    for name in args.models:
        images = torch.randn(args.batch, 3, *args.size)
        name, plain = build(name)
        fast = copy.deepcopy(fill(plain, images))
        layers = len(accelerate(fast))
        if not layers:
            raise InputError(f'{name} has no depthwise convolution that could be faster')
        for dtype in (getattr(torch, text) for text in args.dtype):
            for row in compare(plain.to(dtype), fast.to(dtype), images.to(dtype), args.rounds):
                report['results'].append(dict(model=name, layers=layers, **row))
                print(name, {key: row[key] for key in ('work', 'dtype', 'ratio', 'errors')}, flush=True)
    if args.json:
        write_json(report, args.json)


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
