"""The command lines, each in a process of its own, as a user has them."""

import os
import subprocess
from pathlib import Path
from subprocess import CompletedProcess

from tests.warm import python

ROOT = Path(__file__).parents[2]
SECONDS = 600


def tool(name: str, *arguments: object, **environment: str) -> CompletedProcess:
    """Runs ``tools/<name>`` in a new process; returns it, finished, with its output as text."""
    env = dict(os.environ, PYTHON=python('frameworks'), **environment)
    head = [str(ROOT / 'tools' / name)] if name.endswith('.sh') else [python('frameworks'), f'tools/{name}']
    return subprocess.run([*head, *map(str, arguments)], cwd=ROOT, env=env, capture_output=True, text=True,
                          timeout=SECONDS)
