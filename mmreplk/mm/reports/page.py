"""A report as one HTML file that needs nothing beside it."""

import base64
import math
from html import escape
from pathlib import Path

import cv2
import numpy as np

from ...io import write_whole
from .changes import Change
from .curves import plot
from .examples import Examples
from .history import Curve, History

WIDTH = 1200  # pixels of an example's picture at most
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a;
       background: #fff }
h1 { margin-bottom: 0 } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc }
.lead { color: #555; margin-top: 0 } .curves { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem }
.curves svg { width: 100%; height: auto } figure { margin: 1rem 0 } img { max-width: 100%; height: auto }
table { border-collapse: collapse; font-size: .9rem } th, td { text-align: left; padding: .2rem .8rem .2rem 0;
        vertical-align: top } td.number { text-align: right; font-variant-numeric: tabular-nums }
code, pre { font-size: .85rem; overflow-wrap: anywhere } td:first-child code { white-space: nowrap }
pre { white-space: pre-wrap }
.bar { display: inline-block; height: .7rem; background: #0072b2 } dt { float: left; clear: left; width: 11rem;
color: #555 } dd { margin-left: 11rem } @media (max-width: 45rem) { .curves { grid-template-columns: 1fr } }
"""


def write_page(path: str | Path, history: History, changes: list[Change] | None, examples: Examples | None,
               checkpoint: str | Path | None) -> None:
    """Writes the report of a run.

    Args:
        path: The HTML file.
        history: What the run logged.
        changes: What its config changed; None where the file that it came from is not at hand.
        examples: How its checkpoint does; None where that was not asked.
        checkpoint: The checkpoint that was looked at.
    """
    sections = [
        f'<h1>{escape(history.config.stem)}</h1><p class="lead">{escape(str(history.config.parent))}</p>',
        _summary(history, checkpoint),
        f'<h2>Training</h2><div class="curves">{_curves(history)}</div>',
    ]
    if examples is not None:
        sections += [_per_class(examples), _examples(examples)]
    sections += [_changes(changes), _details('Environment', history.environment)]
    page = ('<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f'<title>{escape(history.config.stem)}</title><style>{STYLE}</style></head><body>'
            f'{"".join(sections)}</body></html>')
    write_whole(page.encode(), path)


def _summary(history: History, checkpoint: str | Path | None) -> str:
    steps = history.training['loss'][-1][0]
    rows = {
        'iterations': f'{steps}',
        'time': f'{history.seconds / 60:.1f} minutes in {history.starts} start{"s" * (history.starts > 1)}'
                f'{_pace(history.training)}',
        'memory': _memory(history.training),
        'checkpoint': escape(str(checkpoint)) if checkpoint else 'none was looked at',
    }  # yapf: disable
    for name, curve in _metrics(history.validation).items():
        best = max(curve, key=lambda point: point[1])
        rows[escape(name)] = f'{curve[-1][1]:.4g} at the end, {best[1]:.4g} at best (iteration {best[0]})'
    return f'<dl>{"".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows.items())}</dl>'


def _pace(training: dict[str, Curve]) -> str:
    return f', {np.median(_values(training["time"])):.3f} s an iteration (median)' if 'time' in training else ''


def _memory(training: dict[str, Curve]) -> str:
    if 'memory' in training:
        return f'{max(_values(training["memory"])):.0f} MB on the GPU at the peak'
    if 'peak_rss' in training:
        return f'{max(_values(training["peak_rss"])):.0f} MB resident at the peak'
    return 'was not logged'


def _values(curve: Curve) -> list[float]:
    return [value for _, value in curve]


def _metrics(validation: dict[str, Curve]) -> dict[str, Curve]:
    """Leaves out the times, and the -1 by which COCO's evaluation says that there is nothing of a size."""
    return {name.removeprefix('coco/'): curve for name, curve in validation.items()
            if name not in ('time', 'data_time') and max(_values(curve)) >= 0}  # yapf: disable


def _curves(history: History) -> str:
    training = history.training
    losses = {name: curve for name, curve in training.items() if 'loss' in name}
    losses = dict(loss=losses.pop('loss'), **losses)
    if len(losses) == 2:
        losses.popitem()  # the only part of the loss is the loss
    plots = [plot(losses, 'loss', logarithmic=min(map(min, map(_values, losses.values()))) > 0)]
    metrics = _metrics(history.validation)
    if metrics:
        plots.append(plot(metrics, 'metrics of the validation'))
    for names, title in ((['lr'], 'learning rate'), (['time', 'data_time'], 'seconds an iteration')):
        own = {name: training[name] for name in names if name in training}  # each by a hook that may have been left out
        if own:
            plots.append(plot(own, title))
    return ''.join(f'<div>{svg}</div>' for svg in plots)


def _per_class(examples: Examples) -> str:
    measures = list(examples.per_class)
    heads = ''.join(f'<th>{measure} (%)</th><th></th>' for measure in measures)
    rows = []
    for name in examples.per_class[measures[0]]:
        cells = [_cell(examples.per_class[measure][name]) for measure in measures]
        rows.append(f'<tr><td>{escape(name)}</td>{"".join(cells)}</tr>')
    means = ''.join(_cell(float(np.nanmean(list(examples.per_class[measure].values())))) for measure in measures)
    return (f'<h2>Class by class</h2><table><tr><th>class</th>{heads}</tr>{"".join(rows)}'
            f'<tr><th>mean</th>{means}</tr></table>')


def _cell(value: float) -> str:
    if math.isnan(value):
        return '<td class="number">absent</td><td></td>'
    return f'<td class="number">{value:.1f}</td><td><span class="bar" style="width: {value / 10:.2f}rem"></span></td>'


def _examples(examples: Examples) -> str:
    figures = [f'<figure><img src="data:image/jpeg;base64,{_jpeg(example.picture)}" '
               f'alt="image, ground truth and prediction, {example.rank}"><figcaption>{example.rank}: '
               f'{100 * example.score:.1f} %, {escape(example.path)}</figcaption></figure>'
               for example in examples.chosen]  # yapf: disable
    return (f'<h2>Examples</h2><p>Image, ground truth and prediction; of {len(examples.scores)} images of the '
            f'validation split, ranked by {escape(examples.measure)}.</p>{"".join(figures)}')


def _jpeg(picture: np.ndarray) -> str:
    scale = min(1, WIDTH / picture.shape[1])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return base64.b64encode(cv2.imencode('.jpg', small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]).decode()


def _changes(changes: list[Change] | None) -> str:
    if changes is None:
        return '<h2>Configuration</h2><p>The file that it came from is not at hand; --config names it.</p>'
    rows = ''.join(f'<tr><td><code>{escape(change.key)}</code></td><td><code>{escape(change.before)}</code></td>'
                   f'<td><code>{escape(change.after)}</code></td></tr>' for change in changes)
    return (f'<h2>Configuration</h2><p>What differs from the configs that it inherits, by the file itself or by the '
            f'command line.</p><table><tr><th>key</th><th>inherited</th><th>here</th></tr>{rows}</table>')


def _details(title: str, text: str) -> str:
    return f'<h2>{title}</h2><details><summary>as logged at the last start</summary><pre>{escape(text)}</pre></details>'
