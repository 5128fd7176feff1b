import logging
import os
import runpy
import sys
from pathlib import Path

from mmreplk.mm.internals import instances_by_name

ROOT = Path(__file__).parents[2]


def run(command, monkeypatch, *options):
    """Runs a command of the page in this process, which saves the imports; returns its exit code."""
    tool, *words = command.split()
    monkeypatch.setattr(logging, 'raiseExceptions', False)  # of handlers that write to what pytest has closed
    monkeypatch.setattr(sys, 'argv', [tool, *words, *(('--cfg-options', *options) if options else ())])
    before = dict(os.environ)
    try:
        runpy.run_path(str(ROOT / tool), run_name='__main__')
    except SystemExit as end:
        return end.code or 0
    finally:
        os.environ.clear()
        os.environ.update(before)
        for instances in instances_by_name():  # a process of its own would begin without loggers and visualizers
            instances.clear()
    return 0
