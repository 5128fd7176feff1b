"""Trainings killed by SIGKILL, as a user has them: the whole tool, each in a process of its own with workers."""

import sys

import kill_and_resume
import pytest

from tests.tools.conftest import TINY
from tests.tools.processes import ROOT
from tests.warm import python


def test_three_kills_leave_no_trace(tmp_path, data_options, monkeypatch, capfd):
    """In the middle of saving, in the middle of validation, and in training; with EMA and two workers for the data."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, 'executable', python('frameworks'))
    monkeypatch.setattr(sys, 'argv', [
        'dev/kill_and_resume.py', TINY, '--kills', '3', '--work-dir', str(tmp_path), '--cfg-options', *data_options,
        'train_dataloader.batch_size=2', 'train_dataloader.num_workers=2', 'train_cfg.max_iters=14',
        'train_cfg.val_interval=4', 'default_hooks.checkpoint.interval=2', 'default_hooks.logger.interval=1',
        'model.backbone.arch.channels=(8,16,16,16)', 'model.decode_head.in_channels=(8,16,16,16)',
        'model.decode_head.channels=16'])
    with pytest.raises(SystemExit) as ended:
        kill_and_resume.main(kill_and_resume.parse_args())
    output = capfd.readouterr().out
    assert ended.value.code == 0 and '3 kills: the same bits' in output, output
    # What is half-written then depends on the machine's speed.
    assert 'kill  1: saving ' in output
    assert not list(tmp_path.glob('*/*.part')), 'what was half-written is cleared away'
