"""Trains several configs on equal budgets, or evaluates their checkpoints, and writes one table and one plot.

    python tools/analysis_tools/compare.py configs/upernet_*_camvid.py --iters 1500 --out work_dirs/compare
    python tools/analysis_tools/compare.py configs/guidelines/k*.py --iters 600 --seeds 3 --out work_dirs/guidelines
    python tools/analysis_tools/compare.py A.py B.py --checkpoints a.pth b.pth --out work_dirs/compare
    python tools/analysis_tools/compare.py A.py B.py --costs-only --out work_dirs/compare

Every model gets the iterations, batch size and schedule of the first config, and is evaluated on the test data of its
own config. The table shows what a config says under `published` beside its result. After an interruption, the same
command continues: finished runs are not repeated.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from mmengine.config import Config

from mmreplk import InputError
from mmreplk.benchmarks import environment
from mmreplk.cli import device, folder_to_write, run
from mmreplk.io import write_json
from mmreplk.mm.benchmarks.comparison import comparison_table, measure_models, plot_comparison, with_budget
from mmreplk.mm.config import add_cfg_options, load_config

ROOT = Path(__file__).resolve().parents[2]
PERCENT = {'mIoU': 1, 'coco/bbox_mAP': 100, 'coco/segm_mAP': 100}  # metrics, and what makes them percent


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='config files of one framework, with schedules in iterations')
    parser.add_argument('--checkpoints', nargs='+', help='one for each config: evaluate these instead of training')
    parser.add_argument('--costs-only', action='store_true', help='do not train or evaluate, only count and time')
    parser.add_argument('--iters', type=int, help='training iterations of each; default: those of the first config')
    parser.add_argument('--seeds', type=int, default=1, help='how many times each is trained, with seeds from 0 on')
    parser.add_argument('--shape', type=int, nargs=2, default=(512, 512), metavar=('H', 'W'),
                        help='size of the image for FLOPs and latency')
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu',
                        help='device for the latency')
    parser.add_argument('--out', type=folder_to_write, default='work_dirs/compare',
                        help='folder for runs, table and plot')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    cfgs = {Path(config).stem: load_config(config, args.cfg_options) for config in args.configs}
    scopes = {cfg.default_scope for cfg in cfgs.values()}
    if len(scopes) > 1 or len(cfgs) < len(args.configs):
        raise InputError(f'configs must be of one framework and of different names, got {args.configs}')
    if args.checkpoints and len(args.checkpoints) != len(args.configs):
        raise InputError(f'--checkpoints must name one for each of the {len(args.configs)} configs, got '
                         f'{len(args.checkpoints)}')
    if args.seeds < 1 or (args.checkpoints and args.seeds > 1):
        raise InputError(f'--seeds must be at least 1, and is for training, got {args.seeds}')
    shape, out = tuple(args.shape), Path(args.out)
    results = {name: [] for name in cfgs} if args.costs_only else run_all(args, cfgs)
    seen = [result for name in cfgs for result in results[name]]
    metrics = [name for name in PERCENT if seen and all(name in result for result in seen)]
    first, figures = next(iter(cfgs.values())), measure_models(cfgs, shape, args.device)
    budget = None if args.checkpoints or args.costs_only else dict(
        iterations=args.iters or first.train_cfg.max_iters, batch_size=first.train_dataloader.batch_size)
    rows = [dict(config=name, results=results[name], **figures[name], published=cfg.get('published', {}))
            for name, cfg in cfgs.items()]
    write(dict(environment=environment(args.device), budget=budget, shape=shape, metrics=metrics, rows=rows), out)


def run_all(args: argparse.Namespace, cfgs: dict[str, Config]) -> dict[str, list[dict]]:
    """Returns, by config, the metrics of every seed."""
    checkpoints = dict(zip(cfgs, args.checkpoints, strict=True)) if args.checkpoints else {}
    first = next(iter(cfgs.values()))
    runs = {(name, seed): cfg if checkpoints else with_budget(cfg, first, args.iters, seed)
            for seed in range(args.seeds) for name, cfg in cfgs.items()}
    results, begin, made = {name: [] for name in cfgs}, time.monotonic(), 0
    for number, ((name, seed), cfg) in enumerate(runs.items(), 1):
        print(f'[{number}/{len(runs)}] {name}, seed {seed}', flush=True)
        try:
            result, is_new = finish(Path(args.out, name, f'seed{seed}'), cfg, checkpoints.get(name))
        except KeyboardInterrupt:
            print('interrupted: the same command continues with what is left', file=sys.stderr)
            sys.exit(130)
        results[name].append(dict(seed=seed, **result))
        made += is_new
        pace = f', {(time.monotonic() - begin) / 60 / made:.1f} min a run' if made else ''
        print('  ' + ', '.join(f'{metric} {value:.2f}' for metric, value in result.items())
              + f'; {len(runs) - number} to go{pace}', flush=True)
    return results


def finish(work_dir: Path, cfg: Config, checkpoint: str | None) -> tuple[dict, bool]:
    """Trains, unless there is a checkpoint, and evaluates; returns percents, and False if an earlier run had them."""
    config, done, cfg.work_dir = work_dir.with_suffix('.py'), work_dir.with_suffix('.json'), str(work_dir)
    if config.exists() and config.read_text() != cfg.pretty_text:
        raise InputError(f'{config} is a run of another config or budget: give another --out, or delete {work_dir}.*')
    if done.exists():
        before = json.loads(done.read_text())
        if before['checkpoint'] == checkpoint:
            return before['metrics'], False
    work_dir.mkdir(parents=True, exist_ok=True)
    config.write_text(cfg.pretty_text)
    if checkpoint is None:
        tool('train.py', config, '--work-dir', work_dir, '--resume', log=work_dir / 'train.txt')
        trained = (work_dir / 'last_checkpoint').read_text().strip()
    tool('test.py', config, checkpoint or trained, '--work-dir', work_dir / 'test', log=work_dir / 'test.txt')
    values = json.loads(max((work_dir / 'test').glob('*/*.json')).read_text())
    result = {name: factor * values[name] for name, factor in PERCENT.items() if name in values}
    if not result:
        raise InputError(f'tools/test.py must find one of {", ".join(PERCENT)}, it found {", ".join(values)}')
    write_json(dict(checkpoint=checkpoint, metrics=result), done)
    return result, True


def tool(name: str, *arguments: str | Path, log: Path) -> None:
    """Runs one of the tools with its output in ``log``."""
    command = [sys.executable, str(ROOT / 'tools' / name), *map(str, arguments)]
    print(f'  tools/{name}, with its output in {log}', flush=True)
    with open(log, 'a') as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
    if code:
        raise InputError(f'tools/{name} failed, see {log}:\n' + '\n'.join(log.read_text().splitlines()[-30:]))


def write(report: dict, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_json(report, out / 'table.json', indent=1)
    table = comparison_table(report)
    (out / 'table.md').write_text(table)
    if report['metrics']:
        plot_comparison(report, out / 'plot.png')
    print(f'\n{table}\nwritten, with all figures, to {out}')


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
