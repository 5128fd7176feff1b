"""Trains several configs on equal budgets, or evaluates their checkpoints, and writes one table and one plot.

    python tools/compare.py configs/upernet_*_camvid.py --iters 1500 --out work_dirs/compare
    python tools/compare.py A.py B.py --checkpoints a.pth b.pth --out work_dirs/compare

Every model gets the same iterations, batches and schedule; latency is of one image, merged, measured in turns.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from mmengine.registry import MODELS, init_default_scope

from mmreplk import InputError
from mmreplk.analysis import count_flops, time_in_turns
from mmreplk.engine import build_empty_model, load_config, run

ROOT = Path(__file__).resolve().parents[1]
METRICS = dict(mmseg=('mIoU', ), mmdet=('bbox_mAP', 'segm_mAP'))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='config files of one framework, with schedules in iterations')
    parser.add_argument('--checkpoints', nargs='+', help='one for each config: evaluate these instead of training')
    parser.add_argument('--iters', type=int, help='training iterations of each; default: of the first config')
    parser.add_argument('--shape', type=int, nargs=2, default=(512, 512), metavar=('H', 'W'),
                        help='image for FLOPs and latency')  # yapf: disable
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='for latency')
    parser.add_argument('--out', default='work_dirs/compare', help='folder for checkpoints, table and plot')
    parser.add_argument('--cfg-options', nargs='+', default=[], help='for each config, as of tools/train.py')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    cfgs = {Path(config).stem: load_config(config) for config in args.configs}
    scopes = {cfg.default_scope for cfg in cfgs.values()}
    if len(scopes) > 1 or len(cfgs) < len(args.configs):
        raise InputError(f'configs must be of one framework and of different names, got {args.configs}')
    if args.checkpoints and len(args.checkpoints) != len(args.configs):
        raise InputError(f'--checkpoints must name one for each of the {len(args.configs)} configs, got '
                         f'{len(args.checkpoints)}')
    checkpoints = args.checkpoints or [train(args, config, cfg) for config, cfg in zip(args.configs, cfgs.values(),
                                                                                     strict=True)]  # yapf: disable
    names, rows = METRICS[scopes.pop()], []
    latencies = time_models(cfgs, tuple(args.shape), args.device)
    for config, (name, cfg), checkpoint in zip(args.configs, cfgs.items(), checkpoints, strict=True):
        log = tool('test.py', config, checkpoint, '--work-dir', f'{args.out}/{name}', *options(args))
        metrics = {metric: float(re.findall(rf'\b{metric}: (-?[0-9.]+)', log)[-1]) for metric in names}
        figures = count_flops(build_empty_model(cfg), tuple(args.shape))
        rows.append(dict(config=name, **metrics, params_m=figures['params'] / 1e6, gflops=figures['flops'] / 1e9,
                         latency_ms=latencies[name], checkpoint=str(checkpoint)))  # yapf: disable
    write(rows, names, Path(args.out), args.shape)


def train(args: argparse.Namespace, config: str, cfg: dict) -> str:
    """Trains one config for the common number of iterations; returns its last checkpoint."""
    first = load_config(args.configs[0])
    if not {'max_iters'} <= set(first.train_cfg) & set(cfg.train_cfg):
        raise InputError(f'{config} must have a schedule in iterations (train_cfg.max_iters)')
    iters = args.iters or first.train_cfg.max_iters
    warm_up = max(1, min(first.param_scheduler[0].end, iters // 10))
    work_dir = f'{args.out}/{Path(config).stem}'
    tool('train.py', config, '--work-dir', work_dir, '--cfg-options',
         f'train_cfg.max_iters={iters}', f'train_cfg.val_interval={iters}',
         f'train_dataloader.batch_size={first.train_dataloader.batch_size}', f'param_scheduler.0.end={warm_up}',
         f'param_scheduler.1.begin={warm_up}', f'param_scheduler.1.end={iters}', *args.cfg_options)  # yapf: disable
    return Path(work_dir, 'last_checkpoint').read_text().strip()


def options(args: argparse.Namespace) -> list[str]:
    return ['--cfg-options', *args.cfg_options] if args.cfg_options else []


def tool(name: str, *arguments: str) -> str:
    """Runs one of the tools; returns what it printed."""
    print('$ python', f'tools/{name}', *arguments, flush=True)
    process = subprocess.run([sys.executable, ROOT / 'tools' / name, *map(str, arguments)], text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # yapf: disable
    if process.returncode:
        raise InputError(f'tools/{name} failed:\n' + '\n'.join(process.stdout.splitlines()[-30:]))
    return process.stdout


def time_models(cfgs: dict, shape: tuple[int, int], device: str) -> dict[str, float]:
    """Returns the median milliseconds of backbone and neck or decode head for one image, by config."""
    image = torch.randn(1, 3, *shape, device=device)
    work = {}
    for name, cfg in cfgs.items():
        init_default_scope(cfg.default_scope)
        model = MODELS.build(cfg.model).eval().to(device)
        if hasattr(model.backbone, 'reparameterize'):
            model.backbone.reparameterize()
        # A detector's heads take as long as there are objects.
        work[name] = (lambda m: lambda: m(image))(model.extract_feat if cfg.default_scope == 'mmdet' else model)
    with torch.no_grad():
        times = time_in_turns(work, device)
    return {name: statistics.median(own) for name, own in times.items()}


def write(rows: list[dict], names: tuple[str, ...], out: Path, shape: tuple[int, int]) -> None:
    """Writes ``table.json``, ``table.md`` and ``plot.png``."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    out.mkdir(parents=True, exist_ok=True)
    (out / 'table.json').write_text(json.dumps(rows, indent=1) + '\n')
    size = f'{shape[0]}x{shape[1]}'
    lines = [['config', *names, 'parameters (M)', f'multiply-adds (G) at {size}', f'ms at {size}'],
             ['---'] * (4 + len(names))]
    lines += [[row['config'], *(f'{row[name]:.3g}' for name in names), f'{row["params_m"]:.1f}',
               f'{row["gflops"]:.1f}', f'{row["latency_ms"]:.1f}'] for row in rows]  # yapf: disable
    table = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
    (out / 'table.md').write_text(table)
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout='constrained')
    for row in rows:
        axes.scatter(row['latency_ms'], row[names[0]], s=20 + 4 * row['params_m'], label=row['config'])
    axes.set(xlabel=f'milliseconds an image of {size}', ylabel=names[0])
    axes.legend(fontsize='small')
    figure.savefig(out / 'plot.png', dpi=120)
    print(f'\n{table}\n{out}/table.md, table.json and plot.png')


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
