"""Checkpoints that are whole or absent, and that PyTorch can read back."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from mmengine.fileio import register_backend
from mmengine.fileio.backends import LocalBackend
from mmengine.logging import HistoryBuffer

# MMEngine keeps its log history in every checkpoint. These are the types that it consists of, so that reading one needs
# no trust in its sender. (getattr is how pickle names the methods of HistoryBuffer; what it returns cannot be called
# from a pickle.)
_SAFE_TYPES = [
    HistoryBuffer, getattr, np.ndarray, np.dtype,
    *(type(np.dtype(name)) for name in ('float16', 'float32', 'float64', 'int32', 'int64', 'bool')),
    np.empty(0).__reduce__()[0],  # what pickle rebuilds arrays and scalars with, wherever NumPy keeps it
    np.float64(0).__reduce__()[0],
]  # yapf: disable
# OpenMMLab's MMEngine 0.10.7 reads with PyTorch's default, which from 2.6 on refuses types that nobody named as safe.
torch.serialization.add_safe_globals(_SAFE_TYPES)


def read_checkpoint(path: str | Path) -> dict:
    """Reads a checkpoint of MMEngine onto the CPU, without executing anything that it may contain.

    Raises:
        pickle.UnpicklingError: If it holds other types than tensors, plain values and MMEngine's log history.
    """
    # Again, since the onedl fork takes some of them away after every checkpoint that it has read.
    torch.serialization.add_safe_globals(_SAFE_TYPES)
    return torch.load(path, map_location='cpu', weights_only=True)


@register_backend('mmreplk.atomic_local')
class AtomicLocalBackend(LocalBackend):
    """Local files that appear whole or not at all: written beside their place, flushed to disk, then renamed.

    ``CheckpointHook(backend_args=dict(backend='mmreplk.atomic_local'))`` makes a full disk, Ctrl-C or a killed process
    leave the checkpoints that were there as they were.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes ``obj`` to ``filepath``, creating its folder; OSError, and nothing changed, if that fails."""
        folder = Path(filepath).parent
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=Path(filepath).name, suffix='.part')
        try:
            with open(descriptor, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, filepath)
        except BaseException:
            os.unlink(temporary)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
