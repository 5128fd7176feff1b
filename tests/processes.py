"""Two processes that talk by gloo, in which a test has a function called."""

import os
import pickle
import socket
import tempfile
from pathlib import Path

import torch


def in_two_processes(function, *arguments):
    """Returns what ``function(*arguments)`` returned in each of two processes, or the exception that it raised."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(_call, (function, arguments, port, folder), 2, start_method='fork')
        return [pickle.loads(Path(folder, str(rank)).read_bytes()) for rank in range(2)]


def _call(rank, function, arguments, port, folder):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                      MASTER_PORT=str(port))
    torch.set_num_threads(1)
    try:
        result = function(*arguments)
    except Exception as error:
        result = error
    Path(folder, str(rank)).write_bytes(pickle.dumps(result))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
