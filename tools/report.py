"""Writes a report of a training run as one HTML file: curves, classes, examples, configuration, environment.

    python tools/report.py work_dirs/camvid
"""

import argparse
from pathlib import Path

import torch
from mmengine.utils import track_iter_progress

from mmreplk import InputError
from mmreplk.cli import device, file_to_write, run
from mmreplk.mm.checks import check_data
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.reports import config_changes, find_examples, read_history, write_page
from mmreplk.mm.trust import decide_trust
from mmreplk.shipped import CONFIGS, find_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dir', help='work directory of the run')
    parser.add_argument('--out', type=file_to_write, help='HTML file; default: report.html in the work directory')
    parser.add_argument('--checkpoint', help='checkpoint file; default: the best of the run, or else the last')
    parser.add_argument('--no-examples', action='store_true',
                        help='do not evaluate; show curves and configuration only')
    parser.add_argument('--config', help='file that the config came from; default: the one of that name in configs/')
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    history = read_history(args.work_dir)
    cfg = load_config(str(history.config), args.cfg_options)
    decide_trust(cfg)
    checkpoint, examples = None, None
    if not args.no_examples:
        checkpoint = args.checkpoint or choose_checkpoint(Path(args.work_dir))
        check_data(cfg, 'val_dataloader')
        examples = find_examples(cfg, checkpoint, args.device, track_iter_progress)
    source = find_config(args.config) if args.config else next(CONFIGS.rglob(history.config.name), None)
    changes = config_changes(load_config(str(history.config)), source) if source else None
    out = Path(args.out or Path(args.work_dir, 'report.html'))
    write_page(out, history, changes, examples, checkpoint)
    print(f'\nreport  {out}')


def choose_checkpoint(work_dir: Path) -> Path:
    """Returns the best checkpoint that was saved last, or else the last."""
    best = sorted(work_dir.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
    pointer = work_dir / 'last_checkpoint'
    if best:
        return best[-1]
    if not pointer.is_file():
        raise InputError(f'{str(work_dir)!r} holds no checkpoint; name one by --checkpoint, or leave the examples out '
                         'by --no-examples')
    return Path(pointer.read_text().strip())


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
