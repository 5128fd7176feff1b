"""Several processes on one machine, as on several GPUs."""

import json
import statistics
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.tools.conftest import TINY, free_port
from tests.tools.processes import ROOT, tool

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


def written(folder, hook):
    folder.mkdir()
    config = folder / 'config.py'
    config.write_text(CONFIG.format(base=ROOT / TINY, hook=hook))
    return config


def train(folder, options, processes):
    """Returns what each process ended with, told of the others as torchrun tells."""
    call = ['train.py', written(folder, "dict(type='Recorder')"), '--work-dir', folder]
    call += ['--no-rehearsal', *(['--launcher', 'pytorch'] if processes > 1 else []), '--cfg-options', *options,
             f'train_dataloader.batch_size={4 // processes}']
    meeting = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=free_port(), WORLD_SIZE=str(processes))
    with ThreadPoolExecutor(processes) as pool:
        return list(pool.map(lambda rank: tool(*call, RANK=str(rank), LOCAL_RANK=str(rank), **meeting),
                             range(processes)))


@pytest.fixture(scope='module')
def options(short_options):
    others = ('batch_size', 'interval=2', 'scale', 'size=(')  # of larger pictures it learns in four iterations
    return [option for option in short_options if not any(words in option for words in others)] + [
        'train_cfg.val_interval=4', 'default_hooks.checkpoint.interval=4']


def test_processes_share_the_work_of_one(tmp_path, options):
    """The same samples, crops and flips, in shares: the same mean loss in every iteration, all but the same metrics."""
    losses, metrics = {}, {}
    for processes in (1, 4):
        folder = tmp_path / str(processes)
        ended = train(folder, options, processes)
        for one in ended:
            assert one.returncode == 0, one.stdout[-2000:] + one.stderr[-2000:]
        assert [one.stdout.count('evaluating with 6 large-kernel layers merged') for one in ended] == [
            1, *[0] * (processes - 1)]
        records = [json.loads(path.read_text()) for path in folder.glob('process_*.json')]
        assert len(records) == processes
        losses[processes] = [statistics.mean(step) for step in zip(*(r['losses'] for r in records), strict=True)]
        metrics[processes] = records[0]['metrics']
        assert len(metrics[processes]) == 1 and all(r['metrics'] == metrics[processes] for r in records)
    assert losses[4][:3] == pytest.approx(losses[1][:3], rel=1e-5), losses
    for one, other in zip(metrics[1], metrics[4], strict=True):  # in percent; rounding moves single pixels
        assert other == pytest.approx(one, abs=0.05)
    assert losses[1][-1] < losses[1][0] - 1e-3, 'it learns, so updates are compared too'


@pytest.mark.parametrize(('by', 'words'), [
    ('raise', 'RuntimeError: process one is ill'), ('kill', 'Signal 9'),
])
def test_a_process_that_dies_brings_the_others_down(tmp_path, options, by, words):
    # Otherwise they wait half an hour for it, and the call of the tool ends after ten minutes.
    config = written(tmp_path / by, f"dict(type='Death', rank=1, iteration=1, by='{by}')")
    result = tool('dist_train.sh', config, 2, '--work-dir', tmp_path, '--no-rehearsal', '--cfg-options', *options,
                     'train_dataloader.batch_size=2', PYTHONPATH=str(ROOT), PORT=free_port(), OMP_NUM_THREADS='1')
    assert result.returncode != 0 and words in result.stderr, result.stderr[-3000:]
