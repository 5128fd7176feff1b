"""Pictures of receptive fields, of filters and of differences, in colours that everybody can tell apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import LogNorm, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter

from ..spread import evenly_spread
from .filters import LayerFilters, growth
from .receptive_field import area_ratios, scores

COLUMNS = 3  # receptive fields beside each other, where there are more than four
FILTERS = 18  # drawn for each layer
OUTLINED = {0.5: '-', 0.99: (0, (4, 3))}  # thresholds, and how their areas are outlined
PIXELS = 128
FLOAT32_EPS = 2.0**-23


def draw_erfs(fields: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Draws effective receptive fields side by side, in the same colours, with their high-contribution areas.

    Args:
        fields: By name, what :func:`contributions` returns.
        path: The picture to write; its suffix says in which format.
    """
    columns = len(fields) if len(fields) <= 4 else COLUMNS
    rows = -(-len(fields) // columns)
    figure = Figure(figsize=(3.3 * columns + 0.9, 3.7 * rows), layout='constrained')
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(fields):]:
        axis.set_axis_off()
    for axis, (name, field) in zip(axes.flat, fields.items(), strict=False):
        height, width = field.shape
        half = (-width / 2, width / 2, height / 2, -height / 2)
        image = axis.imshow(_blocks(scores(field)), cmap='inferno', vmin=0, vmax=1, extent=half)
        ratios = area_ratios(scores(field))
        for threshold, line in OUTLINED.items():
            side = np.sqrt(ratios[threshold] * height * width)
            axis.add_patch(Rectangle((-side / 2, -side / 2), side, side, fill=False, edgecolor='white', linestyle=line))
        axis.set_title(name, fontsize='large')
        axis.set(xticks=[-width // 2, 0, width // 2], yticks=[-height // 2, 0, height // 2])
        axis.set_xlabel(f'area ratio {", ".join(f"{100 * ratio:.1f}" for ratio in ratios.values())} %\n'
                        f'at t = {", ".join(f"{100 * t:.0f}" for t in ratios)} %', fontsize='medium')
        axis.set_xlim(half[:2])
        axis.set_ylim(half[2:])
    axes[0, 0].set_ylabel('pixels from the centre')
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=30)
    bar.set_label('contribution, log10(x + 1), scaled\nwhite: area of 50 %, dashed: of 99 %', fontsize='small')
    figure.savefig(path, dpi=100)


def _blocks(field: np.ndarray) -> np.ndarray:
    """Returns the means of about PIXELS by PIXELS square blocks, scaled to at most 1: single pixels would not be seen.
    """
    block = max(1, min(field.shape) // PIXELS)
    rows, columns = (n // block for n in field.shape)
    means = field[:rows * block, :columns * block].reshape(rows, block, columns, block).mean((1, 3))
    return means / means.max()


def draw_filters(layers: Sequence[LayerFilters], title: str, path: str | Path) -> None:
    """Draws the layers of a stage, one a row: where the energy lies, how it grows from the centre, and filters.

    Args:
        layers: What :func:`filters_of` returns, of one stage.
        title: The heading of the picture.
        path: The picture to write.
    """
    figure = Figure(figsize=(12, 2.75 * len(layers) + 0.6), layout='constrained')
    figure.suptitle(title, fontsize='large')
    figure.get_layout_engine().set(w_pad=0.1)
    axes = figure.subplots(len(layers), 3, squeeze=False, width_ratios=(1.2, 1.2, 2.3))
    for layer, (energy, curve, filters) in zip(layers, axes, strict=True):
        _draw_energy(layer, figure, energy)
        _draw_growth(layer, curve)
        _draw_sheet(layer, figure, filters)
    axes[-1, 1].set_xlabel('distance from the centre, taps')
    figure.savefig(path, dpi=100)


def _draw_energy(layer: LayerFilters, figure: Figure, axis) -> None:
    height, width = layer.energy.shape
    relative = layer.energy * layer.energy.size
    extent = (-width / 2, width / 2, height / 2, -height / 2)
    image = axis.imshow(relative, cmap='viridis', norm=LogNorm(), extent=extent)
    corner = -layer.centre / 2
    axis.add_patch(Rectangle((corner, corner), layer.centre, layer.centre, fill=False, edgecolor='white'))
    axis.set_title(f'{layer.name.removesuffix(".large_kernel")}, {height}x{width}', fontsize='medium')
    axis.set_xticks([-(width // 2), 0, width // 2])
    axis.set_yticks([-(height // 2), 0, height // 2])
    figure.colorbar(image, ax=axis).set_label('energy of a tap / even share', fontsize='small')


def _draw_growth(layer: LayerFilters, axis) -> None:
    own = layer.figures()
    even = np.full_like(layer.energy, 1 / layer.energy.size)
    axis.plot(*growth(layer.energy), color='#0072B2', label='merged')
    if layer.energy_of_large is not None:
        axis.plot(*growth(layer.energy_of_large), color='#D55E00', linestyle='--', label='large branch alone')
    axis.plot(*growth(even), color='0.6', linestyle=':', label='even')
    radii = [own['radius50'], own['radius90']]
    axis.plot(radii, np.interp(radii, *growth(layer.energy)), 'o', color='#0072B2', markersize=5)
    axis.set(ylim=(0, 1.03), xlim=(0, None), yticks=[0, 0.5, 0.9, 1], ylabel='energy within')
    axis.grid(alpha=0.3)
    axis.legend(fontsize='x-small', loc='lower right')
    axis.set_title(f'{100 * own["centre_share"]:.0f} % in the central {layer.centre}x{layer.centre}; half within '
                   f'{own["radius50"]:.1f}, 90 % within {own["radius90"]:.1f}', fontsize='small')


def _draw_sheet(layer: LayerFilters, figure: Figure, axis) -> None:
    chosen = evenly_spread(range(len(layer.filters)), FILTERS)
    columns = -(-len(chosen) // 3)
    height, width = layer.filters.shape[1:]
    gap = max(1, max(height, width) // 12)
    sheet = np.full((3 * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for i, channel in enumerate(chosen):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        own = layer.filters[channel]
        sheet[y:y + height, x:x + width] = own / max(abs(own).max(), np.finfo(np.float32).tiny)
    image = axis.imshow(sheet, cmap='RdBu_r', norm=SymLogNorm(0.03, vmin=-1, vmax=1), interpolation='nearest')
    axis.set_axis_off()
    axis.set_title(f'{len(chosen)} of {len(layer.filters)} merged filters, evenly chosen', fontsize='small')
    bar = figure.colorbar(image, ax=axis, ticks=[-1, -0.1, 0, 0.1, 1], format='%g')
    bar.set_label('weight / largest of its filter', fontsize='small')


def draw_differences(differences: Mapping[str, Sequence[dict]], path: str | Path) -> None:
    """Draws what :func:`merge_differences` returns, relative to the largest value, on a logarithmic axis.

    Args:
        differences: What it returned.
        path: The picture to write.
    """
    layers, features = differences['layers'], differences['features']
    rows = [(f'{row["name"].removesuffix(".large_kernel")}, {row["kernel_size"]}x{row["kernel_size"]}', row['max_rel'],
             '#0072B2', 'o', 'one layer, merged') for row in layers]
    styles = dict(merged=('#D55E00', 's', 'features, merged'), folded=('#009E73', '^', 'features, merged and folded'))
    rows += [(f'features of stage {row["stage"] + 1}', row['max_rel'], *styles[row['form']]) for row in features]
    names = list(dict.fromkeys(row[0] for row in rows))
    figure = Figure(figsize=(7.5, 0.28 * len(names) + 1.5), layout='constrained')
    axis = figure.subplots()
    for label in dict.fromkeys(row[4] for row in rows):
        own = [row for row in rows if row[4] == label]
        axis.plot([row[1] for row in own], [names.index(row[0]) for row in own], linestyle='', color=own[0][2],
                  marker=own[0][3], label=label)
    axis.axvline(FLOAT32_EPS, color='0.5', linestyle='--', label='spacing of float32 numbers at 1')
    decades = np.log10([row[1] for row in rows if row[1] > 0] + [FLOAT32_EPS])
    axis.set(xscale='log', xlim=(10**(np.floor(decades.min()) - 0.1), 10**(np.ceil(decades.max()) + 0.1)),
             xlabel='largest difference / largest value', yticks=range(len(names)), yticklabels=names,
             ylim=(len(names) - 0.4, -0.6))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.3)
    figure.legend(fontsize='small', loc='outside upper center', ncols=2)
    figure.savefig(path, dpi=100)
