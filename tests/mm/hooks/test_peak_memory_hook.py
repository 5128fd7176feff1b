import json

import torch

from mmreplk.mm import PeakMemoryHook
from tests.mm.hooks.toy import make_runner


def test_memory_is_logged_with_the_loss(tmp_path, monkeypatch):
    logger = dict(type='LoggerHook', interval=1, log_metric_by_epoch=False)
    runner = make_runner(tmp_path, PeakMemoryHook(), dict(logger, priority='VERY_LOW'))
    runner.train()
    records = [json.loads(line) for line in next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    peaks = [record['peak_rss'] for record in records if 'loss' in record]
    assert peaks and 50 < peaks[0] <= peaks[-1] < 1e6, 'megabytes'


def test_nothing_is_logged_beside_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    PeakMemoryHook().after_train_iter(runner=None, batch_idx=0)
