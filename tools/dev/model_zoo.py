"""Counts parameters and multiply-adds of every model of configs/metafile.yml. Writes the figures to docs/model_zoo.json
and, as a table beside the published ones, into docs/model_zoo.md."""

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
HEADER = ('config', 'parameters (M): published, merged, as trained', 'multiply-adds (G): published, merged, as trained',
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
    results = [f'{name} {value}' for result in model['Results'] for name, value in result['Metrics'].items()]
    weights = f' ([weights]({model["Official Weights"]}))' if 'Official Weights' in model else ''
    merged, trained = (f'{form["params"] / 1e6:.1f}' for form in (own['merged'], own))
    params = ', '.join((str(meta.get('Published Parameters (M)', '-')), merged, trained))
    return [
        f'[{model["Name"]}](../{model["Config"]})', params, _flops(meta, own), 'x'.join(map(str, own['shape'])),
        ', '.join(results) + weights, ''
    ]


def _flops(meta: dict, own: dict) -> str:
    """Returns the published figure and both counts; the count of the published form shows the difference."""
    published, form = meta.get('Published FLOPs (G)', '-'), meta.get('Published Form')
    cells = [str(published)]
    for name, counted in (('merged', own['merged']['flops'] / 1e9), ('training', own['flops'] / 1e9)):
        cells.append(f'{counted:.0f}' + (f' ({100 * (counted / published - 1):+.1f} %)' if name == form else ''))
    return ', '.join(cells)


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__).parse_args()
    run(main)
