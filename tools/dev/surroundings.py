"""Says what a network gives where surroundings decide: figures, a table and a plot of runs that compare.py made.

    python tools/dataset_converters/make_mini_dataset.py surroundings data/mini_surroundings
    python tools/analysis_tools/compare.py configs/kernel_sizes/surroundings_k*.py --iters 600 --seeds 3 \\
        --shape 256 256 --out work_dirs/surroundings
    python tools/dev/surroundings.py work_dirs/surroundings --json docs/benchmarks/surroundings.json \\
        --sizes docs/pictures/surroundings.png

Every finished run is evaluated merged on the validation pictures: mIoU of the classes that only surroundings tell and
of the others; of the pixels of the former, how many are right by how far away the nearest pixel is that is not pale;
and the side of the smallest square that holds half of what the centre of the feature map depends on, and 99 % of it.
"""

import argparse
import itertools
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib import pyplot
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmreplk import InputError
from mmreplk.benchmarks import Kept, count_pixels, environment, mean_iou
from mmreplk.cli import file_to_write, run
from mmreplk.mm.config import load_config
from mmreplk.mm.data import NEED_SURROUNDINGS
from mmreplk.mm.inference import Predictor
from mmreplk.pictures.images import ImageFolder
from mmreplk.pictures.receptive_field import area_ratios, contributions, scores
from mmreplk.weights import read_checkpoint

EDGES = (0, 4, 8, 16, 24, 32, 40, 64)  # of the classes of distances, in pixels
SEEN = (.5, .99)  # parts of the receptive field
ERF_PICTURES = 20
GROUPS = dict(told_by_surroundings='classes that only surroundings tell', others='all other classes')
COLOURS = 'tab:blue', 'tab:gray'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', type=Path, help="compare.py's --out")
    parser.add_argument('--json', type=file_to_write, required=True,
                        help='file for the figures; interrupted, the same command goes on')
    parser.add_argument('--sizes', type=file_to_write, help='file for a plot over kernel size and distance')
    parser.add_argument('--bars', type=file_to_write, help='file for a plot with a bar for each network')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    configs = sorted(args.runs.glob('*/seed*.py'))
    if not configs:
        raise InputError(f'{str(args.runs)!r} must be a folder that compare.py filled, and has no */seed*.py')
    matplotlib.use('Agg')
    kept = Kept(args.json, dict(environment=environment('cpu'), edges=EDGES, seen=SEEN))
    for config in configs:
        key = dict(config=config.parent.name, seed=int(config.stem.removeprefix('seed')))
        is_finished = config.with_suffix('.json').is_file()
        if is_finished and not kept.measured(**key):
            checkpoint = (config.with_suffix('') / 'last_checkpoint').read_text().strip()
            kept.add([dict(key, **measure(load_config(str(config)), checkpoint))])
            print(kept.rows[-1], flush=True)
    print(table(kept.rows))
    if args.sizes:
        plot_sizes(kept.rows, args.sizes)
    if args.bars:
        plot_bars(kept.rows, args.bars)


def measure(cfg: Config, checkpoint: str) -> dict[str, object]:
    """Returns the figures of one run."""
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    names = dataset.metainfo['classes']
    reverse = {new: old + 1 for old, new in dataset.label_map.items() if new != dataset.ignore_index}
    told = [label for label in range(len(names)) if reverse[label] in NEED_SURROUNDINGS]
    predictor = Predictor(cfg, checkpoint)
    counts, right, all_of_them = 0, np.zeros(len(EDGES) - 1), np.zeros(len(EDGES) - 1)
    for sample in dataset:
        truth = sample['data_samples'].gt_sem_seg.data[0].numpy()
        image = cv2.imread(sample['data_samples'].img_path)
        predicted = predictor([image])[0].labels
        counts = counts + count_pixels(truth, predicted, len(names))
        pale = np.isin(truth, told)
        distances = cv2.distanceTransform(pale.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[pale]
        all_of_them += np.histogram(distances, EDGES)[0]
        right += np.histogram(distances[predicted[pale] == truth[pale]], EDGES)[0]
    others = [label for label in range(len(names)) if label not in told]
    return dict(
        kernels=kernels(cfg.model.backbone), iterations=cfg.train_cfg.max_iters,
        told_by_surroundings=round(mean_iou(counts, told), 2), others=round(mean_iou(counts, others), 2),
        right_by_distance=[round(100 * value, 2) for value in (right / all_of_them).tolist()],
        seen_pixels=receptive_field(cfg, read_checkpoint(checkpoint)))


def kernels(backbone: Mapping) -> list[int] | None:
    """Returns the extent of the largest kernels, and that of the small ones beside them; None if there is no arch."""
    arch = backbone.get('arch')
    return arch and [max(arch.large_kernel_sizes), *filter(None, [arch.small_kernel])]


def receptive_field(cfg: Config, saved: Mapping) -> list[int]:
    """Returns the side, in pixels, of the square that holds each part of SEEN."""
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(saved['state_dict'])
    size = cfg.model.data_preprocessor.size
    folder = f'{cfg.test_dataloader.dataset.data_root}/{cfg.test_dataloader.dataset.data_prefix.img_path}'
    matrix = scores(contributions(model.backbone, ImageFolder(folder, ERF_PICTURES, model.data_preprocessor, size)))
    return [round(size[0] * ratio**.5) for ratio in area_ratios(matrix, SEEN).values()]


def table(rows: Sequence[Mapping]) -> str:
    """Returns Markdown with a line for each network: means over the seeds, and the least and the most in brackets."""
    lines = ['| config | mIoU of classes that only surroundings tell | mIoU of the others | sides of the squares that '
             'hold 50 and 99 % of the receptive field, pixels |', '| --- | --- | --- | --- |']
    for config, own in by_config(rows).items():
        figures = [mean_and_range([row[key] for row in own]) for key in GROUPS]
        sides = ', '.join(f'{side:.0f}' for side in own_means(row['seen_pixels'] for row in own))
        lines.append(f'| {config} | {" | ".join(figures)} | {sides} |')
    return '\n'.join(lines) + '\n'


def by_config(rows: Sequence[Mapping]) -> dict[str, list[Mapping]]:
    """Returns the runs of each config, which differ in their seed only, by increasing numbers in its name."""
    def key(row: Mapping) -> tuple[str, list[int], str]:
        words = re.split(r'(\d+)', row['config'])
        return words[0], list(map(int, words[1::2])), row['config']

    return {config: list(own) for config, own in itertools.groupby(sorted(rows, key=key), lambda row: row['config'])}


def own_means(lists: Iterable[Sequence[float]]) -> list[float]:
    return [statistics.mean(column) for column in zip(*lists, strict=True)]


def mean_and_range(values: Sequence[float]) -> str:
    return f'{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})'


def middle_and_spread(rows: Sequence[Sequence[Mapping]], key: str) -> tuple[list[float], list[list[float]]]:
    """Returns the mean of each group of runs, and how far below and above it the runs lie, as Matplotlib takes it."""
    values = [[row[key] for row in own] for own in rows]
    means = list(map(statistics.mean, values))
    return means, [[mean - min(own) for mean, own in zip(means, values, strict=True)],
                   [max(own) - mean for mean, own in zip(means, values, strict=True)]]


def plot_sizes(rows: Sequence[Mapping], path: str) -> None:
    """Draws mIoU over kernel size, and over the distance to what tells."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    networks = {tuple(own[0]['kernels']): own for own in by_config(rows).values() if own[0]['kernels']}
    sizes = sorted({kernels[0] for kernels in networks})
    for (key, words), colour in zip(GROUPS.items(), COLOURS, strict=True):
        for count, style, marker in ((2, '-', 'o'), (1, '--', 's')):
            own = {kernels[0]: found for kernels, found in networks.items() if len(kernels) == count}
            if own:
                left.errorbar(list(own), *middle_and_spread(list(own.values()), key), linestyle=style, marker=marker,
                              color=colour, capsize=3,
                              label=f'{words}, {"with" if count == 2 else "without"} a small kernel')
    left.set(xlabel='kernel size', ylabel='mIoU, %', ylim=(0, 102), xticks=sizes)
    left.legend(fontsize=8, loc='lower right')
    middles = [(low + high) / 2 for low, high in itertools.pairwise(EDGES)]
    for index, size in enumerate(sizes):
        found = [row for kernels, own in networks.items() if kernels[0] == size and len(kernels) == 2 for row in own]
        if found:
            right.plot(middles, own_means(row['right_by_distance'] for row in found), marker='o',
                       color=pyplot.cm.viridis(index / len(sizes)), label=f'{size}x{size}')
    right.set(xlabel='distance to the nearest pixel that is not pale, in pixels', ylabel='pixels that are right, %',
              ylim=(0, 102))
    right.legend(title='kernels', fontsize=8)
    for axis in (left, right):
        axis.grid(alpha=.3)
    save(figure, path)


def plot_bars(rows: Sequence[Mapping], path: str) -> None:
    """Draws for each config the mIoU of both groups of classes."""
    networks = by_config(rows)
    figure, axis = pyplot.subplots(figsize=(1.5 + 1.1 * len(networks), 3.6), constrained_layout=True)
    for offset, (key, words), colour in zip((-.2, .2), GROUPS.items(), COLOURS, strict=True):
        means, spread = middle_and_spread(list(networks.values()), key)
        places = [place + offset for place in range(len(networks))]
        axis.bar(places, means, .38, yerr=spread, capsize=3, color=colour, alpha=.8, label=words)
        for place, mean in zip(places, means, strict=True):
            axis.text(place, 2, f'{mean:.1f}', ha='center', fontsize=8, color='white')
    axis.set(ylabel='mIoU, %', ylim=(0, 118), xticks=range(len(networks)), yticks=range(0, 101, 20))
    axis.set_xticklabels([config.replace('_', ' ') for config in networks], fontsize=8)
    axis.legend(fontsize=8, loc='upper left', ncols=2)
    save(figure, path)


def save(figure: pyplot.Figure, path: str) -> None:
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
