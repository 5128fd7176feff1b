"""Prints the weights that configs and tools know by name: published ones, and those in the package."""

import argparse

from mmreplk import cli
from mmreplk.weights import OWN, PUBLISHED, find


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('beginning', nargs='?', default='',
                        help="list only names that begin with this, such as 'slak-'")
    parser.add_argument('--addresses', action='store_true', help='print name, address, size and checksum instead')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    found = [entry for entry in PUBLISHED.values() if entry.name.startswith(args.beginning)]
    own = [entry for entry in OWN.values() if entry.name.startswith(args.beginning)]
    if not found + own:
        find(args.beginning)
    if args.addresses:
        for published in found:
            print(published.name, published.url, published.size or '-', published.sha256 or '-')
        for entry in own:
            print(entry.name, entry.file)
    else:
        rows = [('name', 'network', 'kind', 'data', 'side', 'result', 'licence')]
        rows += [(p.name, f'{p.network} {p.arch}', p.kind, p.data, str(p.resolution or '-'), p.result, p.licence)
                 for p in found]
        rows += [(o.name, o.network, o.kind, o.data, str(o.resolution), o.result, o.licence) for o in own]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print('  '.join(f'{cell:<{width}}' for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == '__main__':
    arguments = parse_args()
    cli.run(lambda: main(arguments))
