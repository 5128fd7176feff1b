"""Measures and draws the effective receptive field of a backbone, or of several side by side, as the paper does.

    python tools/analysis_tools/erf.py CONFIG CHECKPOINT --images data/camvid/img_dir/val --out work_dirs/erf
    python tools/analysis_tools/erf.py --model RepLKNet-31 A.py a.pth --model Swin B.py b.pth --model ResNet r.npy ...

Writes a matrix NAME.npy of each model, erf.json with the high-contribution area ratios, and the figure erf.png. Without
a checkpoint, weights are random as before training from scratch, and BatchNorm's statistics are those of the images.
After an interruption, the same command continues with the next model; models measured on the same files are kept.
"""

import argparse
import hashlib
import io
import json
import re
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from mmengine.utils import track_iter_progress

from mmreplk import InputError
from mmreplk.benchmarks import environment
from mmreplk.benchmarks.flops import image_channels
from mmreplk.cli import add_trust_checkpoint, device, file_to_write, folder_to_write, run
from mmreplk.io import write_json, write_whole
from mmreplk.mm.building import build_backbone
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.trust import allow_pickles
from mmreplk.pictures import ImageFolder, chosen_pictures
from mmreplk.pictures.figures import draw_erfs
from mmreplk.pictures.receptive_field import area_ratios, contributions, estimate_statistics, scores

FIGURES = ('.png', '.jpg', '.jpeg', '.svg', '.pdf')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', help='config file of a segmentor or detector; its model alone is enough')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; default: random weights')
    parser.add_argument('--model', nargs='+', action='append', default=[], metavar=('NAME CONFIG', 'CHECKPOINT'),
                        help='another model and its name in the figure, or NAME MATRIX.npy measured before')
    parser.add_argument('--images', help='folder of pictures to measure on')
    parser.add_argument('--count', type=int, default=50, help='largest number of pictures, evenly chosen')
    parser.add_argument('--shape', type=int, nargs=2, default=(1024, 1024), metavar=('H', 'W'),
                        help='height and width that pictures are resized to')
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--seed', type=int, default=0, help='seed of random weights')
    parser.add_argument('--out', type=folder_to_write, default='work_dirs/erf',
                        help='folder for matrices, ratios and figure')
    parser.add_argument('--figure', type=file_to_write,
                        help='file of the figure, .png, .jpg or .svg; default: erf.png in --out')
    add_trust_checkpoint(parser)
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    allow_pickles(args.trust_checkpoint)
    models = named_models(args)
    out = Path(args.out)
    figure = Path(args.figure or out / 'erf.png')
    if figure.suffix.lower() not in FIGURES:
        raise InputError(f'--figure must end in {", ".join(FIGURES)}, got {args.figure!r}')
    out.mkdir(parents=True, exist_ok=True)
    head, fields, rows = dict(environment=environment(args.device)), {}, {}
    before = measured_before(out / 'erf.json')
    for name, (source, checkpoint) in models.items():
        if not source.endswith('.npy'):
            print(f'{name}: {source}, {checkpoint or f"random weights of seed {args.seed}"}', flush=True)
        matrix = out / f'{re.sub(r"[^A-Za-z0-9_.-]+", "_", name)}.npy'
        of = made_of(args, source, checkpoint)
        known = before.pop(name, None)
        if source.endswith('.npy'):
            fields[name] = read_matrix(source)
        elif known and matrix.is_file() and {key: known.get(key) for key in of} == of:
            fields[name] = read_matrix(str(matrix))
        else:
            write_json(dict(head, models=[*rows.values(), *before.values()]), out / 'erf.json', indent=1)
            fields[name] = measure(args, source, checkpoint).astype(np.float32).astype(np.float64)
            write_matrix(fields[name], matrix)
        rows[name] = dict(name=name, **of, shape=list(fields[name].shape),
                          area_ratio=area_ratios(scores(fields[name])),
                          area_ratio_without_logarithm=area_ratios(fields[name]))
        write_json(dict(head, models=[*rows.values(), *before.values()]), out / 'erf.json', indent=1)
        print(f'{name}: the area ratio is ' +
              ', '.join(f'{ratio:.1%} at t = {t:.0%}' for t, ratio in rows[name]['area_ratio'].items()), flush=True)
    figure.parent.mkdir(parents=True, exist_ok=True)
    draw_erfs(fields, figure)
    write_json(dict(head, models=list(rows.values())), out / 'erf.json', indent=1)
    print(f'{out}/erf.json and {figure}')


def measured_before(path: Path) -> dict[str, dict]:
    """Returns the rows that an earlier run wrote, by the names of the models."""
    try:
        return {row['name']: row for row in json.loads(path.read_bytes())['models']}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def made_of(args: argparse.Namespace, source: str, checkpoint: str | None) -> dict:
    """Returns what a matrix depends on: the options, and a checksum of config, weights and pictures."""
    if source.endswith('.npy'):
        return dict(source=source, checkpoint=checkpoint)
    if not args.images:
        raise InputError('--images is needed: a receptive field is measured on pictures, such as those of a validation')
    read = hashlib.sha256(repr(load_config(source, args.cfg_options).to_dict()).encode())
    pictures = chosen_pictures(args.images, args.count)
    for path in ([checkpoint] if checkpoint and Path(checkpoint).is_file() else []) + pictures:
        with open(path, 'rb') as file:
            while block := file.read(1 << 20):
                read.update(block)
    return dict(source=source, checkpoint=checkpoint, images=args.images, count=args.count, seed=args.seed,
                shape_asked=list(args.shape), sha256=read.hexdigest())


def named_models(args: argparse.Namespace) -> dict[str, tuple[str, str | None]]:
    """Returns the config and the checkpoint of each model, by its name in the figure."""
    given = [[Path(args.config).stem, args.config, args.checkpoint]] if args.config else []
    models = {}
    for name, *rest in [*given, *args.model]:
        if len(rest) not in (1, 2) or name in models:
            raise InputError('--model must be a NAME of its own, a CONFIG and, if there is one, a CHECKPOINT, got '
                             f'{" ".join([name, *map(str, rest)])}')
        models[name] = rest[0], rest[1] if len(rest) == 2 else None
    if not models:
        raise InputError('there is no model to measure: name a CONFIG, or --model NAME CONFIG')
    return models


def measure(args: argparse.Namespace, config: str, checkpoint: str | None) -> np.ndarray:
    torch.manual_seed(args.seed)
    module, preprocessor = build_backbone(load_config(config, args.cfg_options), checkpoint, args.trust_checkpoint)
    module, preprocessor = module.to(args.device), preprocessor.to(args.device)
    images = ImageFolder(args.images, args.count, preprocessor, tuple(args.shape), image_channels(module))
    if checkpoint is None:
        estimate_statistics(module, track_iter_progress(images))
    return contributions(module, track_iter_progress(images))


def read_matrix(path: str) -> np.ndarray:
    try:
        matrix = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f'{path!r} cannot be read as a matrix: {error}') from error
    if matrix.ndim != 2:
        raise InputError(f'{path!r} must be a matrix (H, W), its shape is {matrix.shape}')
    return matrix.astype(np.float64)


def write_matrix(matrix: np.ndarray, path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, matrix.astype(np.float32))
    write_whole(buffer.getbuffer(), path)


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
