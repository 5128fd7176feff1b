import contextlib
import os
from pathlib import Path

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

from mmreplk.mm.runner import build_runner, close_runner
from tests.mm.hooks.toy import make_runner, toy_config


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


@pytest.mark.parametrize('verbose', [False, True])
def test_environment_and_config_are_for_the_file_unless_asked_for(tmp_path, capsys, verbose):
    cfg = toy_config(tmp_path)
    cfg.optim_wrapper.paramwise_cfg = dict(bias_decay_mult=.5)
    cfg.optim_wrapper.optimizer.weight_decay = .1
    runner = build_runner(cfg, verbose)
    runner.train()
    close_runner(runner)
    screen, log = capsys.readouterr().out, next(tmp_path.glob('*/*.log'))
    for words in ('System environment:', 'sys.platform', 'Config:', 'max_keep_ckpts', 'Hooks will be executed',
                  'paramwise_options'):
        assert words in log.read_text() and (words in screen) is verbose, words
    assert 'Iter(train)' in screen and 'score: ' in screen
    assert verbose or (screen.count('\n') < 30 and f'The log, with environment and config, is {log}' in screen)
