"""Makes the tables of docs/benchmarks.md of the raw figures in docs/benchmarks."""

import argparse
from pathlib import Path

from mmreplk.benchmarks import benchmark_tables
from mmreplk.cli import run

DOCS = Path(__file__).resolve().parents[2] / 'docs'
BEGIN = '<!-- what follows is made by tools/dev/benchmark_page.py -->\n'


def main() -> None:
    page = DOCS / 'benchmarks.md'
    before, mark, _ = page.read_text().partition(BEGIN)
    page.write_text(f'{before}{mark}\n{benchmark_tables(DOCS / "benchmarks")}')


if __name__ == '__main__':
    argparse.ArgumentParser(description=__doc__).parse_args()
    run(main)
