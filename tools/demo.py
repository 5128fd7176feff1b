"""Shows the main task in minutes on a CPU: makes a dataset, trains, evaluates with merged kernels, shows the results.

For segmentation, it trains two networks at the same time. They differ only in their kernels, 31x31 and 3x3, and some
classes of their pictures can be recognized only by what is around them.
"""

import argparse
import contextlib
import copy
import logging
import os
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmreplk.benchmarks import count_pixels, difference, mean_iou, time_in_turns
from mmreplk.benchmarks.iou import Difference
from mmreplk.cli import run
from mmreplk.io import write_whole
from mmreplk.mm.config import load_config
from mmreplk.mm.data import NEED_SURROUNDINGS
from mmreplk.pictures import named_sheet, read_maps
from mmreplk.spread import evenly_spread
from mmreplk.weights import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
WORK_DIR = 'work_dirs/demo'
DATA = 'data/mini_surroundings'
LARGE, SMALL = '31x31 kernels', '3x3 kernels'
CONFIGS = {LARGE: 'configs/kernel_sizes/surroundings_k31.py', SMALL: 'configs/kernel_sizes/surroundings_k3.py'}
FOLDERS = {LARGE: 'k31', SMALL: 'k3'}  # in the work dir
ROWS = 4  # of the picture
DETECTOR = 'configs/cascade_mask_rcnn_replknet_tiny_minicoco.py'
DETECTION_METRICS = dict(bbox_mAP='box AP', bbox_mAP_50='box AP50', segm_mAP='mask AP', segm_mAP_50='mask AP50')
PROGRESS = re.compile(r'Iter\((?P<job>\w+)\) \[ *(?P<done>\d+)/(?P<all>\d+)\]'
                      r'(?:.*eta: (?P<eta>\S+).* loss: (?P<loss>\S+))?')


class Run(NamedTuple):
    """A network that was trained and evaluated."""
    checkpoint: str
    predictions: str  # folder
    log: str  # of the evaluation


def segmentation() -> None:
    commands(['tools/dataset_converters/make_mini_dataset.py', 'surroundings', DATA])
    work_dirs = {config: f'{WORK_DIR}/{FOLDERS[title]}' for title, config in CONFIGS.items()}
    runs = dict(zip(CONFIGS, train_and_test(work_dirs), strict=True))
    picture = f'{WORK_DIR}/predictions.png'
    lines = compare({title: ROOT / run.predictions for title, run in runs.items()}, ROOT / picture)
    large, small = runs.values()
    print(*lines, speed_up(CONFIGS[LARGE], large.checkpoint), f'picture: {picture}', '',
          'What next, after "source .venv/bin/activate":',
          f'  python tools/report.py {WORK_DIR}/k31',
          f'  python tools/analysis_tools/erf.py {CONFIGS[LARGE]} {large.checkpoint} --model 3x3 {CONFIGS[SMALL]} '
          f'{small.checkpoint} --images {DATA}/images/validation --count 8 --shape 256 256',
          f'  python tools/deployment/export.py {CONFIGS[LARGE]} {large.checkpoint} --out {WORK_DIR}/k31.onnx',
          sep='\n')


def detection() -> None:
    work_dir = f'{WORK_DIR}-det'
    commands(['tools/dataset_converters/make_mini_dataset.py', 'coco', 'data/mini_coco'])
    run, = train_and_test({DETECTOR: work_dir})
    picture = f'{work_dir}/predictions.png'
    commands(['tools/analysis_tools/contact_sheet.py', DETECTOR, run.predictions, picture])
    results = [f'{re.findall(rf"{name}: ([0-9.]+)", run.log)[-1]} {title}' for name, title in DETECTION_METRICS.items()]
    print(f'\n{", ".join(results)}, evaluated merged', speed_up(DETECTOR, run.checkpoint),
          f'picture: {picture}: image, truth, prediction', f'checkpoint: {run.checkpoint}', sep='\n')


def train_and_test(work_dirs: Mapping[str, str]) -> list[Run]:
    """Trains and evaluates the networks of configs, all at the same time, each in its work dir."""
    commands(*(['tools/train.py', config, '--work-dir', work_dir] for config, work_dir in work_dirs.items()))
    checkpoints = [last_checkpoint(work_dir) for work_dir in work_dirs.values()]
    predictions = [f'{work_dir}/predictions' for work_dir in work_dirs.values()]
    logs = commands(*(['tools/test.py', config, checkpoint, '--work-dir', work_dir, '--out', folder]
                      for (config, work_dir), checkpoint, folder
                      in zip(work_dirs.items(), checkpoints, predictions, strict=True)))
    return [Run(*run) for run in zip(checkpoints, predictions, logs, strict=True)]


def last_checkpoint(work_dir: str) -> str:
    checkpoint = Path(ROOT, work_dir, 'last_checkpoint').read_text().strip()
    return str(Path(checkpoint).relative_to(ROOT)) if Path(checkpoint).is_relative_to(ROOT) else checkpoint


def compare(predictions: Mapping[str, Path], picture: Path) -> list[str]:
    """Draws predictions of the two networks side by side; returns lines that say how good they are.

    Args:
        predictions: By the network's title, LARGE and SMALL, the folder that ``tools/test.py --out`` wrote.
        picture: The file to write.
    """
    dataset = test_dataset()
    names = dataset.metainfo['classes']
    reverse = {new: old + 1 for old, new in dataset.label_map.items() if new != dataset.ignore_index}
    told_by_surroundings = [label for label in range(len(names)) if reverse[label] in NEED_SURROUNDINGS]
    others = [label for label in range(len(names)) if label not in told_by_surroundings]

    truths, counts = [], {title: [] for title in predictions}
    for index in range(len(dataset)):
        _, truth, *maps = read_maps(dataset, index, *predictions.values())
        truths.append(truth)
        for own, labels in zip(counts.values(), maps, strict=True):
            own.append(count_pixels(truth, labels, len(names)))
    counts = {title: np.stack(own) for title, own in counts.items()}

    shown = [index for index, truth in enumerate(truths) if np.isin(truth, told_by_surroundings).any()]
    sheet = named_sheet(dataset, predictions, evenly_spread(shown, ROWS))
    write_whole(cv2.imencode('.png', sheet)[1].tobytes(), picture)

    groups = {f'of the {len(told_by_surroundings)} classes that only their surroundings reveal': told_by_surroundings,
              f'of the {len(others)} others': others, 'of all': range(len(names))}
    lines = ['', f'{"mIoU":52}' + ''.join(f'{title:>15}' for title in predictions)]
    for words, labels in groups.items():
        figures = [mean_iou(own.sum(0), labels) for own in counts.values()]
        lines.append(f'  {words:50}' + ''.join(f'{figure:15.1f}' for figure in figures))
    surroundings = ', '.join(names[label] for label in told_by_surroundings)
    return [*lines, f'({surroundings})',
            verdict(difference(counts[LARGE], counts[SMALL], told_by_surroundings), len(dataset))]


def test_dataset() -> Sequence:
    cfg = load_config(str(ROOT / CONFIGS[LARGE]))
    init_default_scope(cfg.default_scope)
    with contextlib.redirect_stdout(None):  # the forks print which datasets they leave out
        return DATASETS.build(cfg.test_dataloader.dataset)


def verdict(found: Difference, pictures: int) -> str:
    """Returns a sentence that says no more than the difference between large and small kernels supports."""
    interval = (f'{found.points:+.1f} mIoU, in 95 of 100 draws of {pictures} pictures from these between '
                f'{found.low:+.1f} and {found.high:+.1f}, after one training of each')
    if found.low > 0:
        return f'Where surroundings decide, large kernels are better: {interval}.'
    if found.high < 0:
        return f'Where surroundings decide, large kernels are worse here: {interval}.'
    return f'Where surroundings decide, no difference shows here: {interval}.'


def commands(*calls: Sequence[str]) -> list[str]:
    """Runs tools at the same time, showing only their progress; returns all that each printed.

    They share the processor's cores, of which one small network alone makes little use.
    """
    for call in calls:
        print('$ python', *call, flush=True)
    threads = max(1, torch.get_num_threads() // len(calls))
    processes = [subprocess.Popen([sys.executable, *call], cwd=ROOT, env=dict(os.environ, OMP_NUM_THREADS=str(threads)),
                                  text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for call in calls]
    printed, progress, failed = [[] for _ in calls], [''] * len(calls), []

    def follow(index: int) -> None:
        for line in processes[index].stdout:
            printed[index].append(line)
            match = PROGRESS.search(line)
            if match:
                loss = f', loss {match["loss"]}' if match['loss'] else ''
                progress[index] = f'{match["job"]} {match["done"]}/{match["all"]}{loss}'
                left = f', {match["eta"]} left' if match['eta'] else ''
                print('\r  ' + f'{" | ".join(filter(None, progress))}{left}'.ljust(76), end='', flush=True)
        if processes[index].wait():
            failed.append(index)
            for other in processes:
                other.terminate()

    try:
        with ThreadPoolExecutor(len(calls)) as pool:
            list(pool.map(follow, range(len(calls))))
    finally:
        print()
    if failed:
        first = failed[0]  # the others were ended because of it
        sys.exit(''.join(printed[first][-30:]) + f'error: {calls[first][0]} failed with exit code '
                 f'{processes[first].returncode}, see above')
    return [''.join(lines) for lines in printed]


def speed_up(config: str, checkpoint: str) -> str:
    """Times backbone and neck or head in training form and merged, in turns; returns a line."""
    cfg = load_config(str(ROOT / config))
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(read_checkpoint(ROOT / checkpoint)['state_dict'])
    merged = copy.deepcopy(model)
    merged.backbone.reparameterize(fuse_bn=True)
    image = torch.randn(1, 3, 512, 512)
    # The time of a detector's heads depends on the number of objects.
    forward = [m.extract_feat if hasattr(m, 'roi_head') else m for m in (model, merged)]
    with torch.no_grad():
        times = time_in_turns(dict(branches=lambda: forward[0](image), merged=lambda: forward[1](image)), rounds=30)
    ratio = statistics.median(slow / fast for slow, fast in zip(*times.values(), strict=True))
    branches, merged = map(statistics.median, times.values())
    return (f'merged, {LARGE} are {ratio:.2f} times as fast as with their branches ({branches:.0f} -> '
            f'{merged:.0f} ms an image of 512x512 pixels, timed in turns)')


def main(job: Callable[[], None]) -> None:
    warnings.simplefilter('ignore')
    logging.disable(logging.INFO)  # of this process: what the tools print is not shown anyway
    start = time.time()
    job()
    print(f'\n{(time.time() - start) / 60:.1f} minutes')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--detection', action='store_true', help='train a detector with boxes and masks instead')
    job = detection if parser.parse_args().detection else segmentation
    run(lambda: main(job))
