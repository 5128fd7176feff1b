"""``python -m mmreplk``: what the package says about itself on a command line."""

import argparse

from .stand_in import stand_in_path


def main() -> None:
    parser = argparse.ArgumentParser(prog='python -m mmreplk', description=__doc__)
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    stand_in = commands.add_parser(
        'stand-in', help='print the folder with the stand-in for the official depthwise_conv2d_implicit_gemm, for '
        'PYTHONPATH or LARGE_KERNEL_CONV_IMPL')
    stand_in.set_defaults(run=lambda: print(stand_in_path()))
    parser.parse_args().run()


if __name__ == '__main__':
    main()
