import contextlib
import os
from pathlib import Path

from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

from mmreplk.mm.runner import close_runner
from tests.mm.hooks.toy import make_runner


def open_files():
    """Returns the descriptors of this process, each with what it is open on."""
    files = set()
    for descriptor in Path('/proc/self/fd').iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of listing them
            files.add((descriptor.name, os.readlink(descriptor)))
    return files


def test_closed_runners_leave_nothing_behind(tmp_path):

    def train(name):
        runner = make_runner(tmp_path / name, end=2)
        runner.train()
        close_runner(runner)
        return runner.experiment_name

    train('first')
    before = open_files()
    names = [train('second'), train('third')]
    # Not their number: what other tests left may be closed meanwhile.
    assert not open_files() - before
    for kind in (MMLogger, MessageHub, Visualizer):
        assert not {*names} & {*kind._instance_dict}, kind
