"""Trains, evaluates merged, saves and resumes many times in one process, and reports whether its resources grow.

Every cycle builds a new runner that continues from the checkpoint of the one before. Exits with 1 unless memory, open
files, threads, child processes and the time of an iteration all stay flat.
"""

import argparse
import copy
import gc
import shutil
import statistics
import sys
import time
from pathlib import Path

from growth import Growth, growth
from mmengine.config import Config
from mmengine.hooks import Hook
from resources import held_resources

from mmreplk import InputError
from mmreplk.benchmarks import environment
from mmreplk.cli import file_to_write, folder_to_write, run
from mmreplk.io import write_json
from mmreplk.mm.checkpoints import find_resumable
from mmreplk.mm.checks import check_before_training
from mmreplk.mm.checks.values import check_values
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.runner import build_runner, close_runner

# By how much each may grow over the run; the time as a share of its median. Processor time is judged, since other
# programs on the machine stretch wall time.
LIMITS = dict(memory_mib=20, files=0.5, threads=0.5, children=0.5, processor_s=0.2)
LABELS = dict(memory_mib='resident memory, MiB', files='open files', threads='threads', children='child processes',
              processor_s='processor time of an iteration, s', clock_s='wall time of an iteration, s')
LEAST_CYCLES = 3  # that growth can be computed from


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of an iteration-based training')
    parser.add_argument('--minutes', type=float, default=60, help='how long to run; default %(default)s')
    parser.add_argument('--iterations', type=int, default=20,
                        help='training iterations in a cycle; default %(default)s')
    parser.add_argument('--work-dir', type=folder_to_write,
                        default='work_dirs/soak', help='folder, which is emptied; default %(default)s')
    parser.add_argument('--json', type=file_to_write, help='file for the raw figures, whole after each cycle')
    parser.add_argument('--plot', type=file_to_write, help='file for a plot of the figures')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if args.iterations < 1 or not args.minutes >= 0:
        raise InputError(f'--iterations must be positive and --minutes not negative, got {args.iterations} and '
                         f'{args.minutes}')
    shutil.rmtree(args.work_dir, ignore_errors=True)
    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    check_values(cfg)
    if (cfg.train_cfg or {}).get('max_iters') is None:
        raise InputError(f'{args.config} must train by iterations, with train_cfg.max_iters')
    check_before_training(cfg)
    cfg.log_level = 'WARNING'
    cfg.param_scheduler = []  # a schedule would end
    cfg.train_cfg.val_interval = cfg.default_hooks.checkpoint.interval = args.iterations
    cfg.custom_hooks.append(dict(type='EMAHook'))
    options = dict(config=args.config, iterations=args.iterations, cfg_options=args.cfg_options)
    head, samples, begin = dict(environment=environment('cpu'), **options), [], time.monotonic()
    while len(samples) < LEAST_CYCLES or time.monotonic() - begin < 60 * args.minutes:
        cycle = one_cycle(cfg, args.iterations)
        gc.collect()  # a runner refers to itself
        sample = dict(minutes=(time.monotonic() - begin) / 60, **cycle, **held_resources())
        samples.append({name: round(value, 4) for name, value in sample.items()})
        print('{minutes:5.1f} min, iteration {iteration}: loss {loss:.4f}, {memory_mib:.0f} MiB, {files} files, '
              '{threads} threads, {children} children; an iteration takes {processor_s:.3f} s of processor '
              'time, {clock_s:.3f} s of wall time'.format(**samples[-1]),
              flush=True)
        if args.json:
            write_json(dict(**head, samples=samples), args.json)
    verdict = judge(samples)
    if args.json:
        growths = {name: found._asdict() for name, found in verdict.items()}
        write_json(dict(**head, verdict=growths, samples=samples), args.json)
    if args.plot:
        plot(samples, args.plot)
    print_verdict(verdict, len(samples))
    sys.exit(0 if all(found.is_flat for found in verdict.values()) else 1)


class Iterations(Hook):
    """Keeps the losses of a training and how long its iterations took, without data loading and other hooks."""

    def __init__(self) -> None:
        self.loss, self.processor_s, self.clock_s = [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._begin = time.process_time(), time.perf_counter()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.processor_s.append(time.process_time() - self._begin[0])
        self.clock_s.append(time.perf_counter() - self._begin[1])
        self.loss.append(float(outputs['loss']))


def one_cycle(cfg: Config, iterations: int) -> dict[str, float]:
    """Continues from the last checkpoint for ``iterations``, evaluates and saves; returns medians over them."""
    cfg, seen = copy.deepcopy(cfg), Iterations()
    cfg.load_from = find_resumable(cfg.work_dir) if Path(cfg.work_dir, 'last_checkpoint').exists() else None
    cfg.resume = cfg.load_from is not None
    done = int(Path(cfg.load_from).stem.removeprefix('iter_')) if cfg.resume else 0
    cfg.train_cfg.max_iters = done + iterations
    runner = build_runner(cfg)
    runner.register_hook(seen)
    runner.train()
    assert len(seen.loss) == iterations and runner.iter == done + iterations
    close_runner(runner)
    medians = {name: statistics.median(getattr(seen, name)) for name in ('loss', 'processor_s', 'clock_s')}
    return dict(iteration=runner.iter, **medians)


def judge(samples: list[dict]) -> dict[str, Growth]:
    """Returns the growth of each quantity that has a limit."""
    minutes, verdict = [sample['minutes'] for sample in samples], {}
    for name, limit in LIMITS.items():
        values = [sample[name] for sample in samples]
        verdict[name] = growth(minutes, values, limit * statistics.median(values) if name == 'processor_s' else limit)
    return verdict


def print_verdict(verdict: dict[str, Growth], cycles: int) -> None:
    print(f'\n{cycles} cycles:\n| | median | growth over the run | limit | |\n| --- | --- | --- | --- | --- |')
    for name, found in verdict.items():
        print(f'| {LABELS[name]} | {found.median:.4g} | {found.growth:+.3g} | {found.limit:.3g} | '
              f'{"flat" if found.is_flat else "GROWS"} |')


def plot(samples: list[dict], path: str) -> None:
    """Draws each quantity against the time."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, rows = pyplot.subplots(3, sharex=True, figsize=(7, 6.5), layout='constrained')
    minutes = [sample['minutes'] for sample in samples]
    panels = ['memory_mib'], ['files', 'threads', 'children'], ['clock_s', 'processor_s']
    for axes, names in zip(rows, panels, strict=True):
        for name in names:
            axes.plot(minutes, [sample[name] for sample in samples], label=LABELS[name])
        axes.set_ylim(0, 1.4 * max(sample[name] for sample in samples for name in names))
        axes.legend(loc='upper left', ncols=3)
    rows[-1].set_xlabel('minutes')
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
