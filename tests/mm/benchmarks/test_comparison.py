import pytest
from mmengine.config import Config

from mmreplk import InputError
from mmreplk.mm.benchmarks.comparison import comparison_table, plot_comparison, with_budget

REPORT = dict(
    shape=[64, 96],
    metrics=['mIoU'],
    rows=[
        dict(config='a', results=[dict(seed=0, mIoU=30.), dict(seed=1, mIoU=33.04)], params_m=1.234, gflops=12.34,
             latency_ms=5.678, published={'ImageNet top-1': 71.76}),
        dict(config='b', results=[dict(seed=0, mIoU=21.)], params_m=2, gflops=0.5, latency_ms=123.4,
             published={'ImageNet top-1': 68.67, 'Cityscapes mIoU': 72.31})
    ])


def config(**options) -> Config:
    return Config(
        dict(
            dict(
                train_cfg=dict(type='IterBasedTrainLoop', max_iters=1000, val_interval=500),
                train_dataloader=dict(batch_size=8),
                param_scheduler=[dict(type='LinearLR', begin=0, end=100),
                                 dict(type='MultiStepLR', begin=100, end=1000, milestones=[600, 900])]),
            **options))


def test_the_budget_is_that_of_the_first():
    other = config(train_dataloader=dict(batch_size=2), train_cfg=dict(max_iters=7), optim_wrapper=dict(lr=1))
    cfg = with_budget(other, config(), iters=50, seed=3)
    assert cfg.train_dataloader.batch_size == 8 and cfg.optim_wrapper.lr == 1 and cfg.randomness.seed == 3
    assert cfg.train_cfg.max_iters == 50 < cfg.train_cfg.val_begin
    assert [(s['begin'], s['end']) for s in cfg.param_scheduler] == [(0, 5), (5, 50)]
    assert cfg.param_scheduler[1]['milestones'] == [30, 45]
    assert [(s['begin'], s['end']) for s in with_budget(other, config(), iters=1).param_scheduler] == [(0, 1)]
    assert other.train_dataloader.batch_size == 2 and with_budget(other, config()).train_cfg.max_iters == 1000


def test_what_has_no_budget():
    with pytest.raises(InputError, match='must have a schedule in iterations'):
        with_budget(config(train_cfg=dict(max_epochs=12)), config())
    with pytest.raises(InputError, match='iters must be at least 1, got 0'):
        with_budget(config(), config(), iters=0)


def test_table():
    assert comparison_table(REPORT).splitlines() == [
        '| config | mIoU | parameters (M) | multiply-adds (G) at 64x96 | ms at 64x96 | published: ImageNet top-1 | '
        'published: Cityscapes mIoU |',
        '| --- | --- | --- | --- | --- | --- | --- |',
        '| a | 31.5 (30.0 to 33.0) | 1.23 | 12.3 | 5.68 | 71.76 |  |',
        '| b | 21.0 | 2.00 | 0.5 | 123 | 68.67 | 72.31 |',
    ]


def test_plot(tmp_path):
    plot_comparison(REPORT, tmp_path / 'plot.png')
    assert (tmp_path / 'plot.png').stat().st_size > 5000
