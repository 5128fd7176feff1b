"""Processes in which a test has a function called: one of its own, or two that talk by gloo."""

import os
import pickle
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tests.warm import python

CALL = """
import pickle, sys
function, arguments = pickle.load(sys.stdin.buffer)
with open(sys.argv[1], 'wb') as file:
    pickle.dump(function(*arguments), file)
"""


def alone(function, *arguments):
    """Returns what ``function(*arguments)`` returns in a process in which other tests have left nothing."""
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run([python('frameworks'), '-c', CALL, file.name], input=pickle.dumps((function, arguments)),
                       env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)), check=True)
        return pickle.load(file)


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
