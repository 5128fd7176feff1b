"""Times models of timm and backbones of MM configs as they are and accelerated, in inference and in training.

With ``--json``, an interrupted run continues when the same command is called again.
"""

import argparse
import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from mmreplk import InputError, accelerate
from mmreplk.benchmarks import Kept, environment
from mmreplk.benchmarks.acceleration import compare, fill
from mmreplk.benchmarks.flops import image_channels
from mmreplk.cli import file_to_write, run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='+', help='names of timm models, or config files, whose backbone is timed')
    parser.add_argument('--size', type=int, nargs=2, default=(224, 224), metavar=('H', 'W'), help='pixels of an image')
    parser.add_argument('--batch', type=int, default=2, help='batch size')
    parser.add_argument('--dtype', nargs='+', choices=['float32', 'bfloat16'], default=['float32'])
    parser.add_argument('--rounds', type=int, default=5, help='how many times each is timed')
    parser.add_argument('--json', type=file_to_write, help='file for the raw figures')
    return parser.parse_args()


def described(name: str) -> tuple[str, Callable[[], nn.Module]]:
    """Returns the name of a model in tables, and a function that builds it with random weights."""
    if not name.endswith('.py'):
        try:
            import timm
        except ImportError as error:
            raise InputError(f'{name!r} is not a config file, whose name ends in .py, and timm is not installed: pip '
                             'install timm') from error
        if not timm.is_model(name):
            raise InputError(f'{name!r} is neither a model that timm knows nor a config file, whose name ends in .py')
        return f'{name} (timm)', lambda: timm.create_model(name)
    from mmengine.registry import MODELS, init_default_scope

    from mmreplk.mm.config import load_config
    from mmreplk.mm.kinds import kind_of
    from mmreplk.mm.trust import decide_trust

    cfg = load_config(name)
    decide_trust(cfg)
    backbone = (cfg.get('model') or {}).get('backbone')
    if not backbone:
        raise InputError(f'the model of {name} has no backbone')
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    return f'{kind_of(backbone)} ({Path(name).stem})', lambda: MODELS.build(dict(backbone, init_cfg=None))


def main(args: argparse.Namespace) -> None:
    if min(*args.size, args.batch, args.rounds) < 1:
        raise InputError(f'size, batch and rounds must be positive, got {tuple(args.size)}, {args.batch} and '
                         f'{args.rounds}')
    kept = Kept(args.json, dict(environment=environment('cpu'), rounds=args.rounds))
    for name in args.models:
        title, build = described(name)
        setting = dict(model=title, batch=args.batch, size=args.size)
        missing = [dtype for dtype in args.dtype if not kept.measured(**setting, dtype=dtype)]
        for rows in measure(build(), title, args, missing) if missing else ():
            kept.add(dict(model=title, **row) for row in rows)
        for row in kept.measured(**setting):
            print(name, {key: row[key] for key in ('work', 'dtype', 'ratio', 'errors')}, flush=True)


def measure(plain: nn.Module, title: str, args: argparse.Namespace, dtypes: list[str]) -> Iterator[list[dict]]:
    """Yields the rows of each dtype."""
    images = torch.randn(args.batch, image_channels(plain), *args.size)
    fast = copy.deepcopy(fill(plain, images))
    layers = len(accelerate(fast))
    if not layers:
        raise InputError(f'{title} has no depthwise convolution that could be faster')
    for dtype in (getattr(torch, text) for text in dtypes):
        rows = compare(plain.to(dtype), fast.to(dtype), images.to(dtype), args.rounds)
        yield [dict(layers=layers, **row) for row in rows]


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
