"""Several processes on one machine, through tools/dist_train.sh, as on several GPUs."""

import json
import statistics

import pytest

from tests.tools.conftest import TINY, free_port
from tests.tools.processes import ROOT, command, tool

CONFIG = """
_base_ = '{base}'
custom_imports = dict(imports=['mmreplk', 'tests.tools.distributed'])
model = dict(
    backbone=dict(norm_cfg=dict(type='GlooSyncBN'), drop_path_rate=0.0,
                  arch=dict(channels=[8, 16, 16, 16])),
    # Without pooling to 1x1, whose BatchNorm over four values a batch magnifies rounding a thousandfold each step.
    decode_head=dict(pool_scales=(2, 3, 6), norm_cfg=dict(type='GlooSyncBN'), dropout_ratio=0.0,
                     in_channels=[8, 16, 16, 16], channels=16))
optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.003, momentum=0.9, weight_decay=1e-4))
param_scheduler = []
randomness = dict(seed=0)
custom_hooks = [dict(type='ReparamHook'), dict(type='ExactResumeHook'), dict(type='NonFiniteHook'), {hook}]
"""


def train(folder, options, processes, hook="dict(type='Recorder')"):
    folder.mkdir()
    config = folder / 'config.py'
    config.write_text(CONFIG.format(base=ROOT / TINY, hook=hook))
    arguments = ['--work-dir', folder, '--cfg-options', *options, f'train_dataloader.batch_size={4 // processes}']
    if processes == 1:
        return tool('train.py', config, *arguments)
    return command('dist_train.sh', config, processes, *arguments, PYTHONPATH=str(ROOT), PORT=free_port(),
                OMP_NUM_THREADS='1')


@pytest.fixture(scope='module')
def options(short_options):
    return [option for option in short_options if 'batch_size' not in option]


def test_processes_share_the_work_of_one(tmp_path, options):
    """The same samples, crops and flips, in shares: the same mean loss in every iteration, all but the same metrics."""
    losses, metrics = {}, {}
    for processes in (1, 2, 4):
        folder = tmp_path / str(processes)
        result = train(folder, options, processes)
        assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
        assert result.stdout.count('evaluating with 6 large-kernel layers merged') == 1
        records = [json.loads(path.read_text()) for path in folder.glob('process_*.json')]
        assert len(records) == processes
        losses[processes] = [statistics.mean(step) for step in zip(*(r['losses'] for r in records), strict=True)]
        metrics[processes] = records[0]['metrics']
        assert len(metrics[processes]) == 2 and all(r['metrics'] == metrics[processes] for r in records)
    for processes in (2, 4):
        assert losses[processes][:3] == pytest.approx(losses[1][:3], rel=1e-5), losses
        for one, other in zip(metrics[1], metrics[processes], strict=True):  # in percent; rounding moves single pixels
            assert other == pytest.approx(one, abs=0.05)
    assert losses[1][-1] < losses[1][0] - 1e-3, 'it learns, so updates are compared too'


@pytest.mark.parametrize(('by', 'words'), [
    ('raise', 'RuntimeError: process one is ill'), ('exit', 'exitcode  : 3'), ('kill', 'Signal 9'),
])
def test_a_process_that_dies_brings_the_others_down(tmp_path, options, by, words):
    # Otherwise they wait half an hour for it, and the call of the tool ends after ten minutes.
    result = train(tmp_path / by, options, 2, f"dict(type='Death', rank=1, iteration=1, by='{by}')")
    assert result.returncode != 0 and words in result.stderr, result.stderr[-3000:]
