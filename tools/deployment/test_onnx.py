"""Evaluates exported segmentors in onnxruntime on the test data of their config, and times them in turns.

With ``--json``, an interrupted run continues when the same command is called again.
"""

import argparse
import os
import statistics
from importlib.metadata import version

from mmreplk import InputError
from mmreplk.benchmarks import Kept, environment
from mmreplk.cli import file_to_write, folder_to_write, run
from mmreplk.io import markdown_table
from mmreplk.mm.checks import check_data
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.export.evaluation import evaluate, time_files
from mmreplk.mm.trust import decide_trust


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of the model')
    parser.add_argument('onnx', nargs='+', help='files with logits; the others are compared with the first')
    parser.add_argument('--work-dir', type=folder_to_write, help='folder for logs')
    parser.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'),
                        help='also time them, on one image of this size')
    parser.add_argument('--rounds', type=int, default=10, help='how many times each is timed')
    parser.add_argument('--json', type=file_to_write, help='file for the raw figures')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    decide_trust(cfg)
    check_data(cfg, 'test_dataloader')
    head = dict(environment=environment('cpu'), onnxruntime=version('onnxruntime'), config=args.config,
                options={key: repr(value) for key, value in (args.cfg_options or {}).items()})
    kept, rows = Kept(args.json, head), []
    for path in args.onnx:
        if not os.path.isfile(path):
            raise InputError(f'{path!r} is not a file')
        file = dict(file=os.path.basename(path), mib=os.path.getsize(path) / 2**20, changed=os.path.getmtime(path))
        if not kept.measured(**file):
            kept.add([dict(file, metrics=evaluate(cfg, path))])
        rows += kept.measured(**file)[:1]
    if args.shape:
        shape = (1, cfg.model.backbone.get('in_channels', 3), *args.shape)
        for row, times in zip(rows, time_files(args.onnx, shape, args.rounds), strict=True):
            row.update(shape=list(shape), raw_ms=times)
        kept.add([])
    print_table(rows)


def print_table(rows: list[dict]) -> None:
    metrics = list(rows[0]['metrics'])
    columns = ['file', 'MiB', *metrics, *(['median ms', 'ratio'] if 'raw_ms' in rows[0] else [])]
    lines = []
    for row in rows:
        cells = [row['file'], f'{row["mib"]:.1f}', *(f'{row["metrics"][name]:.2f}' for name in metrics)]
        if 'raw_ms' in row:
            median, first = (statistics.median(r['raw_ms']) for r in (row, rows[0]))
            cells += [f'{median:.1f}', f'{median / first:.2f}']
        lines.append(cells)
    print(markdown_table(columns, lines), end='')


if __name__ == '__main__':
    arguments = parse_args()
    run(lambda: main(arguments))
