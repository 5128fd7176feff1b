"""The main job in minutes on a CPU: makes a dataset, trains, evaluates merged, and shows what came of it."""

import copy
import re
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import torch
from mmengine.registry import MODELS, init_default_scope

from mmreplk.analysis import time_in_turns
from mmreplk.engine import load_config, read_checkpoint

ROOT = Path(__file__).resolve().parents[1]
CONFIG = 'configs/upernet_replknet_tiny_miniade20k.py'
DATA = 'data/mini_ade20k'
WORK_DIR = 'work_dirs/demo'
PROGRESS = re.compile(r'Iter\((?P<job>\w+)\) \[ *(?P<done>\d+)/(?P<all>\d+)\]'
                      r'(?:.*eta: (?P<eta>\S+).* loss: (?P<loss>\S+))?')


def main() -> None:
    warnings.simplefilter('ignore')
    start = time.time()
    command('tools/make_mini_ade20k.py', DATA)
    command('tools/train.py', CONFIG, '--work-dir', WORK_DIR)
    checkpoint = Path(ROOT, WORK_DIR, 'last_checkpoint').read_text().strip()
    log = command('tools/test.py', CONFIG, checkpoint, '--work-dir', WORK_DIR, '--out', f'{WORK_DIR}/predictions')
    picture = f'{WORK_DIR}/predictions.png'
    command('tools/contact_sheet.py', CONFIG, f'{WORK_DIR}/predictions', picture)
    branches, merged = time_forms(checkpoint)
    miou = float(re.findall(r'mIoU: ([0-9.]+)', log)[-1])
    print(f'\nmIoU              {miou:.1f} over the classes present, evaluated merged\n'
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
    if process.wait():
        sys.exit(''.join(lines[-30:]) + f'error: {arguments[0]} failed, see above')
    return ''.join(lines)


def time_forms(checkpoint: str) -> list[float]:
    """Returns the milliseconds that the network takes for one image in training form and merged."""
    cfg = load_config(str(ROOT / CONFIG))
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(read_checkpoint(checkpoint)['state_dict'])
    merged = copy.deepcopy(model)
    merged.backbone.reparameterize()
    image = torch.randn(1, 3, 512, 512)
    with torch.no_grad():
        times = time_in_turns(dict(branches=lambda: model(image), merged=lambda: merged(image)))
    return [statistics.median(own) for own in times.values()]


if __name__ == '__main__':
    main()
