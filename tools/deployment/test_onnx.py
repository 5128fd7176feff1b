"""Evaluates exported segmentors in onnxruntime on the test data of their config, and times them in turns."""

import argparse
import os
import statistics
from importlib.metadata import version

from mmreplk.benchmarks import environment
from mmreplk.cli import run
from mmreplk.io import markdown_table, write_json
from mmreplk.mm.checks import check_data
from mmreplk.mm.config import add_cfg_options, load_config
from mmreplk.mm.export.evaluation import evaluate, time_files
from mmreplk.mm.trust import decide_trust


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of the model')
    parser.add_argument('onnx', nargs='+', help='files with logits, the first the one that others are compared with')
    parser.add_argument('--work-dir', help='folder for logs')
    parser.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'), help='time them on one image of this size')
    parser.add_argument('--rounds', type=int, default=10, help='how often each is timed')
    parser.add_argument('--json', help='file for the raw figures')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, args.cfg_options, args.work_dir)
    decide_trust(cfg)
    check_data(cfg, 'test_dataloader')
    rows = [dict(file=os.path.basename(path), mib=os.path.getsize(path) / 2**20, metrics=evaluate(cfg, path))
            for path in args.onnx]  # yapf: disable
    if args.shape:
        for row, times in zip(rows, time_files(args.onnx, (1, 3, *args.shape), args.rounds), strict=True):
            row['raw_ms'] = times
    print_table(rows)
    if args.json:
        report = dict(environment=environment('cpu'), onnxruntime=version('onnxruntime'), config=args.config,
                      shape=args.shape, results=rows)  # yapf: disable
        write_json(report, args.json)


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
