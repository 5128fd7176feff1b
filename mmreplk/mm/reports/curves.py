"""Curves as SVG, which a page holds as text."""

import io

import matplotlib
from matplotlib.figure import Figure

from .history import Curve

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000']
LARGEST = 400  # points of a curve that a plot this wide can show


def plot(curves: dict[str, Curve], label: str, logarithmic: bool = False) -> str:
    """Draws curves over the iterations.

    Args:
        curves: The curves by name; the first is drawn thickest.
        label: What the values are, with their unit.
        logarithmic: Whether the axis of the values is logarithmic.

    Returns:
        An ``<svg>`` element.
    """
    figure = Figure(figsize=(6.4, 3.2), layout='constrained')
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        points = curve[::-(-len(curve) // LARGEST) or 1]
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1.8 if number == 0 else 1,
                  marker='o' if len(points) < 30 else None, markersize=3, color=COLOURS[number % len(COLOURS)],
                  linestyle=('-', '--', ':')[number // len(COLOURS) % 3])
    axes.set(xlabel='iteration', ylabel=label, yscale='log' if logarithmic else 'linear')
    axes.grid(color='#dddddd', linewidth=0.6)
    axes.spines[['top', 'right']].set_visible(False)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=8, ncols=2 if len(curves) > 5 else 1)
    text = io.StringIO()
    with matplotlib.rc_context({'svg.fonttype': 'none'}):  # text stays text, in the reader's font
        figure.savefig(text, format='svg', metadata=dict(Date=None, Creator=None))
    return text.getvalue()[text.getvalue().index('<svg'):]
