"""What a measurement was made with."""

import platform
import subprocess
from pathlib import Path

import torch


def environment(device: str) -> dict[str, str | None]:
    """Returns the device by name, the versions that matter, and the commit of this repository, where there is one."""
    commit = subprocess.run(['git', 'rev-parse', 'HEAD'], capture_output=True, text=True, cwd=Path(__file__).parent)
    cpu = f'{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads'
    return dict(
        device=torch.cuda.get_device_name() if device == 'cuda' else cpu,
        torch=torch.__version__,
        cuda=torch.version.cuda,
        python=platform.python_version(),
        commit=commit.stdout.strip())
