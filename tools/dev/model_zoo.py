"""Counts every model of configs/metafile.yml and writes the figures to docs/model_zoo.json and, as a table beside the
published ones, into docs/model_zoo.md."""

import argparse
from pathlib import Path

import yaml

from mmreplk.benchmarks import count_flops
from mmreplk.cli import run
from mmreplk.io import markdown_table, write_json
from mmreplk.mm.building import build_empty_model
from mmreplk.mm.config import load_config

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = '<!-- table: tools/dev/model_zoo.py -->\n', '<!-- end of table -->\n'
HEADER = ('config', 'parameters (M): published, merged, as trained', 'multiply-adds (G): published, as trained',
          'at (height x width)', "the paper's result", 'reproduced here')


def main() -> None:
    models = yaml.safe_load((ROOT / 'configs/metafile.yml').read_text())['Models']
    figures, rows = {}, []
    for model in models:
        meta = model['Metadata']
        shape = tuple(map(int, meta['FLOPs Resolution'].split('x')))
        empty = build_empty_model(load_config(str(ROOT / model['Config'])))
        own = count_flops(empty, shape)
        empty.backbone.reparameterize(fuse_bn=True)
        figures[model['Name']] = own | dict(merged=count_flops(empty, shape))
        rows.append(row(model, figures[model['Name']]))
        print(' | '.join(rows[-1]), flush=True)
    write_json(figures, ROOT / 'docs/model_zoo.json', indent=1)
    page = ROOT / 'docs/model_zoo.md'
    before, rest = page.read_text().split(BEGIN)
    page.write_text(before + BEGIN + markdown_table(HEADER, rows) + END + rest.split(END)[1])


def row(model: dict, own: dict) -> list[str]:
    meta = model['Metadata']
    params, flops = meta['Published Parameters (M)'], meta['Published FLOPs (G)']
    merged, trained, counted = own['merged']['params'] / 1e6, own['params'] / 1e6, own['flops'] / 1e9
    results = [f'{name} {value}' for result in model['Results'] for name, value in result['Metrics'].items()]
    return [
        f'[{model["Name"]}](../{model["Config"]})', f'{params}, {merged:.1f}, {trained:.1f}',
        f'{flops}, {counted:.0f} ({100 * (counted / flops - 1):+.1f} %)', 'x'.join(map(str, own['shape'])),
        f'{", ".join(results)} ([weights]({model["Official Weights"]}))', ''
    ]


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__).parse_args()
    run(main)
