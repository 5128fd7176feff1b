"""Options of tools that read a config."""

from argparse import ArgumentParser

from mmengine.config import DictAction


def add_cfg_options(parser: ArgumentParser) -> None:
    """Adds ``--cfg-options``, for :func:`load_config`."""
    parser.add_argument('--cfg-options', nargs='+', action=DictAction,
                        help='override config values, as key=value or key="[a,b]"')  # yapf: disable


def add_launcher(parser: ArgumentParser) -> None:
    """Adds ``--launcher`` and what PyTorch's launchers pass to each process."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
