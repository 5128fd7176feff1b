import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmreplk import InputError
from mmreplk.benchmarks.runtimes import RUNTIMES
from mmreplk.layers import LargeKernelConv2d
from mmreplk.mm.benchmarks import model as model_benchmark
from mmreplk.mm.benchmarks.memory import labelled_batch
from mmreplk.mm.benchmarks.model import FORMS, PACKED, TRAINED_FORMS, benchmark_model, benchmark_training
from mmreplk.mm.benchmarks.setting import Setting
from mmreplk.mm.config import load_config


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


def small_config(name='upernet_replknet_tiny_miniade20k'):
    """The tiny model at a fraction of its width, with fewer blocks: PyTorch exports a block in half a second."""
    cfg, channels = load_config(f'configs/{name}.py'), [8, 16, 16, 16]
    cfg.model.backbone.arch.update(layers=[1, 1, 1, 1], channels=channels)
    (cfg.model.get('neck') or cfg.model.decode_head).in_channels = channels
    if cfg.default_scope == 'mmdet':
        cfg.model.test_cfg.rpn.max_per_img = 20
    else:
        cfg.model.decode_head.update(channels=16, pool_scales=(1, 2))
    return cfg


@pytest.mark.parametrize('config', ['upernet_replknet_tiny_miniade20k', 'cascade_mask_rcnn_replknet_tiny_minicoco'])
def test_every_form_is_timed_alone_and_whole(config):
    cfg = small_config(config)
    rows = benchmark_model(cfg, Setting((64, 96), rounds=2))
    forms = FORMS + PACKED
    assert [(row['part'], row['form']) for row in rows] == [(p, f) for p in ('backbone', 'model') for f in forms]
    for row in rows:
        assert len(row['raw_ms']) == 2 and min(row['raw_ms']) > 0
        assert row['large_kernel_share'] is None if row['form'] in PACKED else 0 < row['large_kernel_share'] < 1
        assert row['images_per_s'] == pytest.approx(1000 / row['median_ms'])
    assert not any('forward' in vars(m) for m in MODELS.build(cfg.model).modules())


@pytest.mark.parametrize(('part', 'dtype'), [('backbone', torch.bfloat16), ('model', torch.float32)])
def test_runtimes_run_the_exported_network(part, dtype):
    cfg = small_config()
    rows = benchmark_model(cfg, Setting((64, 96), 2, dtype, rounds=2), None, [part], ['packed'], list(RUNTIMES))
    names = ['packed', 'onnxruntime', 'openvino', 'onnxruntime 3x3', 'openvino 3x3']
    assert [(row['part'], row['form']) for row in rows] == [(part, name) for name in names]
    assert all(min(row['raw_ms']) > 0 and row['large_kernel_share'] is None for row in rows)


@pytest.mark.parametrize('part', ['backbone', 'model'])
def test_a_runtime_that_is_wrong_is_not_timed(part, monkeypatch):
    cfg, load = small_config(), RUNTIMES['onnxruntime']

    def wrong(*arguments):
        return lambda pixels: [out + 1 for out in load(*arguments)(pixels)]

    monkeypatch.setitem(RUNTIMES, 'onnxruntime', wrong)
    with pytest.raises(InputError, match='onnxruntime (differs from the model by|gives 0.00%)'):
        benchmark_model(cfg, Setting((64, 64)), parts=[part], forms=[], rivals=['onnxruntime'])


def test_a_checkpoint_is_what_is_timed():
    cfg = small_config()
    rows = benchmark_model(cfg, Setting((64, 64), batch=2, rounds=2), MODELS.build(cfg.model).state_dict())
    assert len(rows) == 14
    with pytest.raises(InputError, match='do not fit this RepLKNet'):
        benchmark_model(cfg, Setting((64, 64)), dict())


def test_plain_convolutions_compute_the_same():
    model = MODELS.build(small_config().model).backbone.eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        model_benchmark._use_plain_convolutions(model)
        assert not any(isinstance(m, LargeKernelConv2d) for m in model.modules())
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


def test_only_large_kernel_networks_have_these_forms():
    cfg = load_config('configs/upernet_resnet50_camvid.py')
    with pytest.raises(InputError, match="the backbone of the model must be a large-kernel network, got 'ResNet"):
        benchmark_model(cfg, Setting())


def test_training_steps_are_timed():
    cfg = small_config()
    rows = benchmark_training(cfg, Setting((64, 64), batch=2, dtype=torch.bfloat16, rounds=2))
    assert [(row['part'], row['form']) for row in rows] == [('training step', form) for form in TRAINED_FORMS]
    assert all(row['images_per_s'] == pytest.approx(2000 / row['median_ms']) for row in rows)
    with pytest.raises(InputError, match='at least 2 images, got 1'):
        benchmark_training(cfg, Setting((64, 64)))
    with pytest.raises(InputError, match="must be 'mmseg', got 'mmdet'"):
        benchmark_training(load_config('configs/cascade_mask_rcnn_replknet_tiny_minicoco.py'), Setting((64, 64), 2))


def test_a_step_trains():
    cfg = small_config()
    model = model_benchmark._build(cfg, 'training', None, Setting()).train()
    step = model_benchmark._step(model, cfg, labelled_batch(cfg, (64, 64), 2), Setting())
    before = model.backbone.stem[0].conv.weight.clone()
    step()
    assert not torch.equal(model.backbone.stem[0].conv.weight, before)
