"""Several models side by side: equal budgets, the same measurements, one table and one plot."""

import copy
import functools
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from ...benchmarks.flops import count_flops, image_channels
from ...benchmarks.measure import time_in_turns
from ...errors import InputError
from ...io import markdown_table
from ...merging import reparameterized


def with_budget(cfg: Config, first: Config, iters: int | None = None, seed: int = 0) -> Config:
    """Returns a copy of ``cfg`` that trains on the budget of ``first`` and does not validate.

    Args:
        cfg: Config of a segmentor or detector.
        first: The config whose batch size and schedule are taken.
        iters: Training iterations, to which the schedule is shortened or stretched; None for those of ``first``.
        seed: The seed by which weights and data are drawn.

    Raises:
        InputError: If either config has no schedule in iterations, or ``iters`` is not positive.
    """
    for one in (first, cfg):
        if 'max_iters' not in one.train_cfg:
            raise InputError(f'{one.filename} must have a schedule in iterations (train_cfg.max_iters)')
    if iters is not None and iters < 1:
        raise InputError(f'iters must be at least 1, got {iters}')
    iters = iters or first.train_cfg.max_iters
    factor = iters / first.train_cfg.max_iters
    cfg = copy.deepcopy(cfg)
    cfg.train_dataloader.batch_size = first.train_dataloader.batch_size
    cfg.train_cfg = copy.deepcopy(first.train_cfg)  # dict() would put classes into a pure-Python config
    cfg.train_cfg.update(max_iters=iters, val_begin=iters + 1)
    schedulers = [_stretched(scheduler, factor) for scheduler in first.param_scheduler]
    # MMEngine refuses schedules that have been shortened to nothing.
    cfg.param_scheduler = [own for own in schedulers if 'end' not in own or own['end'] > own.get('begin', 0)]
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    return cfg


def _stretched(scheduler: Mapping, factor: float) -> dict:

    def moved(moment: int) -> int:
        return max(1, round(moment * factor)) if moment else 0

    own = copy.deepcopy(scheduler)
    own.update({key: moved(own[key]) for key in ('begin', 'end') if key in own})
    if 'milestones' in own:
        own['milestones'] = [moved(moment) for moment in own['milestones']]
    return own


def measure_models(cfgs: Mapping[str, Config], shape: tuple[int, int],
                   device: str = 'cpu') -> dict[str, dict[str, float]]:
    """Counts and times models on one image, with fresh weights.

    Args:
        cfgs: Configs by name.
        shape: Height and width of the image in pixels.
        device: ``'cuda'`` or ``'cpu'``: where they are timed.

    Returns:
        By name, ``params_m`` (millions) and ``gflops`` (multiply-adds) as :func:`count_flops` counts, in training
        form, and ``latency_ms``, the median time in the merged form that is evaluated; without a detector's heads,
        whose time depends on the objects.
    """
    figures, work = {}, {}
    with ExitStack() as stack, torch.no_grad():
        for name, cfg in cfgs.items():
            init_default_scope(cfg.default_scope)
            model = MODELS.build(cfg.model).eval()
            counted = count_flops(model, shape)
            figures[name] = dict(params_m=counted['params'] / 1e6, gflops=counted['flops'] / 1e9)
            model = model.to(device)
            image = torch.randn(1, image_channels(model), *shape, device=device)
            stack.enter_context(reparameterized(model))
            work[name] = functools.partial(model.extract_feat if cfg.default_scope == 'mmdet' else model, image)
        for name, times in time_in_turns(work, device).items():
            figures[name]['latency_ms'] = statistics.median(times)
    return figures


def comparison_table(report: Mapping) -> str:
    """Returns what ``tools/analysis_tools/compare.py`` found as a table in Markdown, beside published results.

    Args:
        report: ``shape``, ``metrics`` (names) and ``rows``, each with ``config``, ``results`` (a dict of the
            metrics for every seed), ``params_m``, ``gflops``, ``latency_ms`` and ``published`` (results by name).
    """
    size, rows = 'x'.join(map(str, report['shape'])), report['rows']
    published = list(dict.fromkeys(name for row in rows for name in row['published']))
    head = ['config', *report['metrics'], 'parameters (M)', f'multiply-adds (G) at {size}', f'ms at {size}',
            *(f'published: {name}' for name in published)]
    lines = []
    for row in rows:
        lines.append([row['config'], *(_mean_and_range(row, name) for name in report['metrics']),
                      f'{row["params_m"]:.2f}', _three_digits(row['gflops']), _three_digits(row['latency_ms']),
                      *(f'{row["published"][name]:.2f}' if name in row['published'] else ''
                        for name in published)])
    return markdown_table(head, lines)


def _three_digits(value: float) -> str:
    return f'{value:.3g}' if value < 100 else f'{value:.0f}'


def _mean_and_range(row: Mapping, metric: str) -> str:
    values = [result[metric] for result in row['results']]
    mean = f'{statistics.mean(values):.1f}'
    return mean if len(values) == 1 else f'{mean} ({min(values):.1f} to {max(values):.1f})'


def plot_comparison(report: Mapping, path: str | Path) -> None:
    """Draws the first metric of every seed, and their mean, over the latency; ``report`` as for the table."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    metric = report['metrics'][0]
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout='constrained')
    for row in report['rows']:
        values = [result[metric] for result in row['results']]
        seeds = axes.scatter([row['latency_ms']] * len(values), values, s=12, alpha=0.5)
        axes.scatter(row['latency_ms'], statistics.mean(values), s=60, color=seeds.get_facecolor(), alpha=1,
                     label=f'{row["config"]}, {row["params_m"]:.3g}M')
    axes.set(xlabel=f'milliseconds an image of {"x".join(map(str, report["shape"]))}', ylabel=metric)
    axes.legend(fontsize='small')
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
