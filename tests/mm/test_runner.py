import os

from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

from mmreplk.mm.runner import close_runner
from tests.mm.hooks.toy import make_runner


def test_closed_runners_leave_nothing_behind(tmp_path):

    def train(name):
        runner = make_runner(tmp_path / name, end=2)
        runner.train()
        close_runner(runner)
        return runner.experiment_name

    train('first')
    files = len(os.listdir('/proc/self/fd'))
    names = [train('second'), train('third')]
    assert len(os.listdir('/proc/self/fd')) == files
    for kind in (MMLogger, MessageHub, Visualizer):
        assert not {*names} & {*kind._instance_dict}, kind
