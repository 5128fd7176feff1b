"""The hook in real runs of MMEngine, with a real segmentor that is small."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from torch.utils.data import Dataset

from mmreplk.acceleration import AcceleratedConv2d

# Kernels as of SegNeXt, and larger ones.
MODEL = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64), test_cfg=dict(size_divisor=32)),
    backbone=dict(
        type='MSCAN', embed_dims=[8, 8, 8, 8], mlp_ratios=[2] * 4, depths=[1] * 4, drop_path_rate=0.1,
        attention_kernel_sizes=[31, [1, 7], [1, 11], [1, 21]], attention_kernel_paddings=[15, [0, 3], [0, 5], [0, 10]],
        norm_cfg=dict(type='BN')),
    decode_head=dict(type='FCNHead', in_channels=8, in_index=3, channels=8, num_classes=3, num_convs=1),
    test_cfg=ConfigDict(mode='whole'))


class Scenes(Dataset):

    def __len__(self):
        return 8

    def __getitem__(self, index):
        from mmseg.structures import SegDataSample
        generator = torch.Generator().manual_seed(index)
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
        sample.gt_sem_seg = PixelData(data=torch.randint(3, (1, 64, 64), generator=generator))
        return dict(inputs=torch.randn(3, 64, 64, generator=generator), data_samples=sample)


class Logits(BaseMetric):

    def process(self, data_batch, data_samples):
        self.results += [sample['seg_logits']['data'] for sample in data_samples]

    def compute_metrics(self, results):
        return dict(mean=float(torch.stack(results).mean()), spread=float(torch.stack(results).std()))


class Witness(Hook):
    """Keeps losses and metrics, and how many layers are accelerated in each phase."""

    priority = 'LOWEST'

    def __init__(self):
        self.losses, self.metrics, self.phases = [], [], {}

    def look(self, runner, phase):
        count = sum(type(module) is AcceleratedConv2d for module in runner.model.modules())
        self.phases.setdefault(phase, set()).add(count)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.look(runner, 'train')
        self.losses.append(float(outputs['loss']))

    def after_val_epoch(self, runner, metrics=None):
        self.look(runner, 'val')
        self.metrics.append(metrics)

    def after_test_epoch(self, runner, metrics=None):
        self.look(runner, 'test')
        self.metrics.append(metrics)

    def after_run(self, runner):
        self.look(runner, 'end')


def make_runner(work_dir, *hooks, **options):
    init_default_scope('mmseg')
    torch.manual_seed(0)
    loader = dict(dataset=Scenes(), batch_size=4, num_workers=0, collate_fn=dict(type='pseudo_collate'))
    shuffled, ordered = (dict(loader, sampler=dict(type='DefaultSampler', shuffle=value)) for value in (True, False))
    return Runner(
        model=MODELS.build(MODEL), work_dir=str(work_dir), train_dataloader=shuffled, val_dataloader=ordered,
        test_dataloader=ordered, train_cfg=dict(type='IterBasedTrainLoop', max_iters=4, val_interval=2),
        val_cfg=dict(type='ValLoop'), test_cfg=dict(type='TestLoop'), val_evaluator=[Logits()],
        test_evaluator=[Logits()], optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        custom_hooks=list(hooks), log_processor=dict(by_epoch=False), randomness=dict(seed=0),
        default_scope='mmseg', experiment_name=f'run{work_dir.name}{id(work_dir)}', **options)


def checkpoint(work_dir):
    saved = torch.load(work_dir / 'iter_4.pth', weights_only=False)
    assert 'AcceleratedConv2d' not in (work_dir / 'iter_4.pth').read_bytes().decode('latin1')
    return saved


def assert_close(actual, expected):
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize('ema', [False, True], ids=['', 'ema'])
def test_runs_and_checkpoints_are_those_without_it(ema, tmp_path):
    runs = {}
    for name, hooks in (('without', []), ('with', [dict(type='AccelerateHook')])):
        witness = Witness()
        hooks = [*hooks, witness, *([EMAHook(momentum=0.5)] if ema else [])]
        runner = make_runner(tmp_path / name, *hooks)
        runner.train()
        runs[name] = witness, checkpoint(tmp_path / name)
    (plain, before), (fast, after) = runs['without'], runs['with']
    torch.testing.assert_close(fast.losses, plain.losses, rtol=1e-4, atol=1e-5)
    assert len(fast.metrics) == len(plain.metrics) == 2
    for one, other in zip(fast.metrics, plain.metrics, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert_close(after['state_dict'], before['state_dict'])
    assert list(after) == list(before)
    if ema:
        assert_close(after['ema_state_dict'], before['ema_state_dict'])
    assert plain.phases == dict(train={0}, val={0}, end={0})
    count, = fast.phases['train']
    assert count >= 4 and fast.phases == dict(train={count}, val={count}, end={0})
    log, = (tmp_path / 'with').glob('*/*.log')
    assert log.read_text().count(f'AccelerateHook: {count} depthwise convolutions run on mmreplk') == 1


def test_a_test_runs_with_it(tmp_path):
    results = []
    make_runner(tmp_path / 'train').train()
    for name, hooks in (('without', []), ('with', [dict(type='AccelerateHook')])):
        witness = Witness()
        runner = make_runner(tmp_path / name, *hooks, witness, load_from=str(tmp_path / 'train/iter_4.pth'))
        results.append(runner.test())
        assert (0 in witness.phases['test']) == (name == 'without') and witness.phases['end'] == {0}
    assert results[1] == pytest.approx(results[0], rel=1e-4, abs=1e-5)
