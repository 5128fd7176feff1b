"""Trainings killed by SIGKILL, as a user has them: the whole tool in processes of its own."""

from tests.tools.conftest import TINY
from tests.tools.processes import command


def test_three_kills_leave_no_trace(tmp_path, data_options):
    """In the middle of saving, in the middle of validation, and in training; with EMA and two workers for the data."""
    result = command(
        'dev/kill_and_resume.py', TINY, '--kills', 3, '--work-dir', tmp_path, '--cfg-options', *data_options,
        'train_dataloader.batch_size=2', 'train_dataloader.num_workers=2', 'train_cfg.max_iters=14',
        'train_cfg.val_interval=4', 'default_hooks.checkpoint.interval=2', 'default_hooks.logger.interval=1',
        'model.backbone.arch.channels=(8,16,16,16)', 'model.decode_head.in_channels=(8,16,16,16)',
        'model.decode_head.channels=16')
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert '3 kills: the same bits' in result.stdout
    # What is half-written then depends on the machine's speed.
    assert 'kill  1: saving ' in result.stdout
    assert not list(tmp_path.glob('*/*.part')), 'what was half-written is cleared away'
