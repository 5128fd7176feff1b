"""Makes the tables in pages of docs/ from the raw figures in the folders of the same names."""

import argparse
from pathlib import Path

from mmreplk.benchmarks import benchmark_tables
from mmreplk.cli import run

DOCS = Path(__file__).resolve().parents[2] / 'docs'
BEGIN = '<!-- what follows is made by tools/dev/benchmark_page.py -->\n'


def main() -> None:
    for page in (path for path in DOCS.glob('*.md') if BEGIN in path.read_text()):
        before, mark, _ = page.read_text().partition(BEGIN)
        page.write_text(f'{before}{mark}\n{benchmark_tables(page.with_suffix(""))}')


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__).parse_args()
    run(main)
