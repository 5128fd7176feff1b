"""The processes of a run, joined before MMEngine's runner would do it."""

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, init_dist, is_distributed, is_main_process
from mmengine.utils.dl_utils import set_multi_processing

from ..errors import InputError

T = TypeVar('T')
# The environment variable that each launcher sets in the processes that it starts.
_MARKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_LOCAL_RANK')


def join_processes(cfg: Config) -> None:
    """Makes this process one of the group that ``cfg.launcher`` has started, as the runner would do later.

    Without GPUs, the processes of PyTorch's launcher talk by gloo; the runner would look for a GPU for each.

    Raises:
        InputError: If the launcher has not started this process.
    """
    if cfg.get('launcher', 'none') == 'none' or is_distributed():
        return
    mark = _MARKS.get(cfg.launcher)
    if mark is not None and mark not in os.environ:
        raise InputError(f'this process was not started by the launcher {cfg.launcher!r}, which sets {mark}: use '
                         'tools/dist_train.sh, tools/dist_test.sh or tools/slurm_train.sh')
    if cfg.launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo')
        return
    env = cfg.get('env_cfg') or {}
    set_multi_processing(**env.get('mp_cfg') or {}, distributed=True)  # before init_dist, which sets a default
    init_dist(cfg.launcher, **env.get('dist_cfg') or {})


def decided_by_first(decide: Callable[[], T]) -> T:
    """Calls ``decide`` in the first process; returns what it returned in all of them, or raises what it raised."""
    said: list = [None, None]
    if is_main_process():
        try:
            said[0] = decide()
        except Exception as error:
            said[1] = error
    broadcast_object_list(said)
    if said[1] is not None:
        raise said[1]
    return said[0]
