"""What a measurement was made with."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def environment(device: str) -> dict[str, str | None]:
    """Returns the device by name, the versions that matter, and the commit of this repository, where there is one.

    Args:
        device: ``'cuda'``, of which the driver's and cuDNN's versions are told too, or ``'cpu'``.
    """
    cpu = f'{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads'
    found = dict(device=torch.cuda.get_device_name() if device == 'cuda' else cpu, torch=torch.__version__,
                 triton=_version('triton'), cuda=torch.version.cuda, python=platform.python_version(),
                 commit=_output('git', 'rev-parse', 'HEAD'))  # yapf: disable
    if device == 'cuda':
        found.update(cudnn=str(torch.backends.cudnn.version()),
                     driver=_output('nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader'))
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _output(*command: str) -> str | None:
    """Returns what ``command`` prints; None if there is no such program or it fails."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    except FileNotFoundError:
        return None
    return run.stdout.strip() if run.returncode == 0 else None
