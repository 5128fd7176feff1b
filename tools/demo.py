"""The main job in minutes on a CPU: makes a dataset, trains, evaluates merged, and shows what came of it."""

import argparse
import copy
import re
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.registry import MODELS, init_default_scope

from mmreplk.benchmarks import time_in_turns
from mmreplk.mm.config import load_config
from mmreplk.weights import read_checkpoint

ROOT = Path(__file__).resolve().parents[1]


class Demo(NamedTuple):
    config: str
    dataset: tuple[str, str]  # kind, as tools/dataset_converters/make_mini_dataset.py has it, and folder
    work_dir: str
    predictions: str  # in the work dir
    metrics: dict[str, str]  # what to print, by name in the log


SEGMENTATION = Demo('configs/upernet_replknet_tiny_miniade20k.py', ('ade20k', 'data/mini_ade20k'),
                    'work_dirs/demo', 'predictions', {'mIoU': 'mIoU over the classes present'})
DETECTION = Demo('configs/cascade_mask_rcnn_replknet_tiny_minicoco.py', ('coco', 'data/mini_coco'),
                 'work_dirs/demo-det', 'predictions', {
                     'bbox_mAP': 'box AP', 'bbox_mAP_50': 'box AP50', 'segm_mAP': 'mask AP', 'segm_mAP_50': 'mask AP50'
                 })  # yapf: disable
PROGRESS = re.compile(r'Iter\((?P<job>\w+)\) \[ *(?P<done>\d+)/(?P<all>\d+)\]'
                      r'(?:.*eta: (?P<eta>\S+).* loss: (?P<loss>\S+))?')


def main(demo: Demo) -> None:
    warnings.simplefilter('ignore')
    start = time.time()
    command('tools/dataset_converters/make_mini_dataset.py', *demo.dataset)
    command('tools/train.py', demo.config, '--work-dir', demo.work_dir)
    checkpoint = Path(ROOT, demo.work_dir, 'last_checkpoint').read_text().strip()
    predictions, picture = f'{demo.work_dir}/{demo.predictions}', f'{demo.work_dir}/predictions.png'
    log = command('tools/test.py', demo.config, checkpoint, '--work-dir', demo.work_dir, '--out', predictions)
    command('tools/analysis_tools/contact_sheet.py', demo.config, predictions, picture)
    branches, merged = time_forms(demo.config, checkpoint)
    results = [f'{re.findall(rf"{name}: ([0-9.]+)", log)[-1]} {title}' for name, title in demo.metrics.items()]
    print(f'\nresult            {", ".join(results)}, evaluated merged\n'
          f'merged model      {branches / merged:.2f} times as fast as its training form '
          f'({branches:.0f} -> {merged:.0f} ms an image of 512x512 pixels)\n'
          f'predictions       {picture}: image, ground truth, prediction\n'
          f'checkpoint        {checkpoint}\n'
          f'time              {(time.time() - start) / 60:.1f} minutes')


def command(*arguments: str) -> str:
    """Runs one of the tools, showing its progress only; returns all that it printed."""
    print('$ python', *arguments, flush=True)
    process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT)  # yapf: disable
    lines = []
    for line in process.stdout:
        lines.append(line)
        match = PROGRESS.search(line)
        if match:
            loss = f', loss {match["loss"]}, {match["eta"]} left' if match['eta'] else ''
            print(f'\r  {match["job"]} {match["done"]}/{match["all"]}{loss}    ', end='', flush=True)
    print()
    code = process.wait()
    if code:
        sys.exit(''.join(lines[-30:]) + f'error: {arguments[0]} failed with exit code {code}, see above')
    return ''.join(lines)


def time_forms(config: str, checkpoint: str) -> list[float]:
    """Returns the milliseconds that backbone and neck or head take for one image in training form and merged."""
    cfg = load_config(str(ROOT / config))
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(read_checkpoint(checkpoint)['state_dict'])
    merged = copy.deepcopy(model)
    merged.backbone.reparameterize(fuse_bn=True)
    image = torch.randn(1, 3, 512, 512)
    # A detector's heads take as long as there are objects.
    run = [m.extract_feat if hasattr(m, 'roi_head') else m for m in (model, merged)]
    with torch.no_grad():
        times = time_in_turns(dict(branches=lambda: run[0](image), merged=lambda: run[1](image)))
    return [statistics.median(own) for own in times.values()]


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--detection', action='store_true', help='boxes and masks instead of segmentation')
    main(DETECTION if parser.parse_args().detection else SEGMENTATION)
