"""A report as one HTML file that needs no other files."""

import base64
import math
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined  # PyTorch installs it

from ...io import write_whole
from .changes import Change
from .curves import plot
from .examples import Examples
from .history import Curve, History

WIDTH = 1200  # pixels of an example's picture at most


def write_page(path: str | Path, history: History, changes: list[Change] | None, examples: Examples | None,
               checkpoint: str | Path | None) -> None:
    """Writes the report of a run.

    Args:
        path: The HTML file.
        history: What the run logged.
        changes: What its config changed; None if the config file was not found.
        examples: How well its checkpoint does; None if that was not asked for.
        checkpoint: The checkpoint that was evaluated.
    """
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    pages.filters['jpeg'] = _jpeg
    shown = {} if examples is None else _per_class(examples)
    page = pages.get_template('page.html').render(
        config=history.config, summary=_summary(history, checkpoint), curves=_curves(history), examples=examples,
        changes=changes, environment=history.environment, **shown)
    write_whole(page.encode(), path)


def _summary(history: History, checkpoint: str | Path | None) -> dict[str, str]:
    rows = {
        'iterations': f'{history.training["loss"][-1][0]}',
        'time': f'{history.seconds / 60:.1f} minutes in {history.starts} start{"s" * (history.starts > 1)}'
                f'{_pace(history.training)}',
        'memory': _memory(history.training),
        'checkpoint': str(checkpoint) if checkpoint else 'none was evaluated',
    }
    for name, curve in _metrics(history.validation).items():
        best = max(curve, key=lambda point: point[1])
        rows[name] = f'{curve[-1][1]:.4g} at the end, {best[1]:.4g} at best (iteration {best[0]})'
    return rows


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
            if name not in ('time', 'data_time') and max(_values(curve)) >= 0}


def _curves(history: History) -> list[str]:
    """Returns the plots, each as SVG."""
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
    return plots


def _per_class(examples: Examples) -> dict[str, object]:
    """Returns the table of classes: measures, the values of each class, and their means; None for what is absent."""
    measures = list(examples.per_class)
    columns = [examples.per_class[measure] for measure in measures]
    return dict(
        measures=measures,
        per_class={name: [_present(column[name]) for column in columns] for name in columns[0]},
        means=[_present(float(np.nanmean(list(column.values())))) for column in columns])


def _present(value: float) -> float | None:
    return None if math.isnan(value) else value


def _jpeg(picture: np.ndarray) -> str:
    scale = min(1, WIDTH / picture.shape[1])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return base64.b64encode(cv2.imencode('.jpg', small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]).decode()
