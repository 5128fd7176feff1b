"""Every config builds as it is, and runs and learns at its real depth and a fraction of its width."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData

from mmreplk.benchmarks import count_flops
from mmreplk.mm.building import build_empty_model
from mmreplk.mm.config import load_config
from mmreplk.networks.replknet import Arch

ROOT = Path(__file__).parents[2]
CONFIGS = {path.stem: path for path in sorted((ROOT / 'configs').glob('*.py'))}
STUDY = sorted(path for path in (ROOT / 'configs/kernel_sizes').glob('*.py') if not path.stem.startswith('base'))
PUBLISHED = {model['Name']: model for model in yaml.safe_load((ROOT / 'configs/metafile.yml').read_text())['Models']}
NARROWING = 16

@pytest.fixture(params=CONFIGS)
def cfg(request):
    pytest.importorskip('mmdet' if 'rcnn' in request.param or 'fcos' in request.param else 'mmseg')
    if 'convnext' in request.param:
        pytest.importorskip('mmpretrain', reason='ConvNeXt comes from MMPretrain')
    cfg = load_config(str(CONFIGS[request.param]))
    init_default_scope(cfg.default_scope)
    return cfg


def test_builds_at_full_width(cfg):
    model = build_empty_model(cfg)
    assert {'ReparamHook', 'StrictLoadHook'} <= {hook.type for hook in cfg.custom_hooks}
    assert cfg.default_hooks.checkpoint.backend_args.backend == 'mmreplk.atomic_local'
    assert cfg.default_hooks.checkpoint.max_keep_ckpts >= 2
    length = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
    assert length == cfg.param_scheduler[-1].end and cfg.tta_model and cfg.tta_pipeline
    assert cfg.model.data_preprocessor.mean[0] == (127.5 if cfg.model.backbone.get('arch') == 'XL' else 123.675)
    classes = cfg.train_dataloader.dataset.get('metainfo', {}).get('classes')
    if cfg.default_scope == 'mmseg':
        assert cfg.model.data_preprocessor.size == next(
            t.crop_size for t in cfg.train_dataloader.dataset.pipeline if t.type == 'RandomCrop')
        assert model.decode_head.num_classes == (
            len(classes) if classes else dict(ADE20KDataset=150, CityscapesDataset=19)[cfg.dataset_type])
    else:
        heads = model.roi_head.bbox_head if hasattr(model, 'roi_head') else [model.bbox_head]
        assert {head.num_classes for head in heads} == {len(classes) if classes else 80}


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_figures(name):
    """Parameters merged, to the last digit; multiply-adds as trained, within 2 %: as docs/model_zoo.md says."""
    meta = PUBLISHED[name]['Metadata']
    shape = tuple(map(int, meta['FLOPs Resolution'].split('x')))
    model = build_empty_model(load_config(str(CONFIGS[name])))
    figures = count_flops(model, shape)
    assert figures['flops'] / 1e9 == pytest.approx(meta['Published FLOPs (G)'], rel=.02)
    assert figures['flops'] == sum(part['flops'] for part in figures['parts'].values())
    if 'cityscapes' in name:
        # What was published is a network of one feed-forward block less.
        del model.backbone.stages[2].blocks[-1]
        assert int(count_flops(model, shape)['flops'] / 1e9) == meta['Published FLOPs (G)']
    model.backbone.reparameterize(fuse_bn=True)
    params = sum(p.numel() for key, p in model.named_parameters() if not key.startswith('auxiliary_head'))
    assert round(params / 1e6) == meta['Published Parameters (M)']


def test_every_published_model_is_in_the_index():
    assert yaml.safe_load((ROOT / 'model-index.yml').read_text()) == dict(Import=['configs/metafile.yml'])
    real = {name for name in CONFIGS if 'replknet' in name and 'tiny' not in name}
    assert set(PUBLISHED) == real
    for name, model in PUBLISHED.items():
        assert model['Config'] == f'configs/{name}.py' and model['Metadata']['Results From'] == 'paper'
        # MIM puts lists into lower case, whatever is in them.
        assert all(isinstance(item, str) for value in model['Metadata'].values() if isinstance(value, list)
                   for item in value)  # yapf: disable


OFFICIAL_RUNS = dict(  # GPUs x images, steps, warm-up
    upernet_replknet31b_ade20k=(64 * 2, 40_000, 400),
    upernet_replknet31b_ade20k_in22k_640=(64 * 2, 40_000, 400),
    upernet_replknet31l_ade20k_in22k_640=(64 * 1, 80_000, 800),
    upernet_replknetxl_ade20k_640=(16 * 2, 160_000, 1500),
    upernet_replknet31b_cityscapes_769=(32 * 2, 20_000, 400))


@pytest.mark.parametrize('gpus', [8, 1])
@pytest.mark.parametrize('name', OFFICIAL_RUNS)
def test_steps_are_those_of_the_official_run(name, gpus):
    """On one node as the config is, on one GPU with the options that its head names."""
    options = dict(re.findall(r'(\S+)=(\d+)', CONFIGS[name].read_text().split('_base_')[0])) if gpus == 1 else {}
    cfg = load_config(str(CONFIGS[name]), {key: int(value) for key, value in options.items()})
    together, (images, steps, warm_up) = cfg.optim_wrapper.accumulative_counts, OFFICIAL_RUNS[name]
    assert gpus * cfg.train_dataloader.batch_size * together == images
    assert cfg.train_cfg.max_iters == steps * together == cfg.param_scheduler[1].end
    assert cfg.param_scheduler[0].end == warm_up * together == cfg.param_scheduler[1].begin
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.betas, optimizer.weight_decay) == ('AdamW', 2e-4, (0.9, 0.999), .05)
    assert cfg.optim_wrapper.paramwise_cfg == dict(norm_decay_mult=0)
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size


@pytest.mark.parametrize('gpus', [8, 1])
@pytest.mark.parametrize('name', [name for name in PUBLISHED if 'coco' in name])
def test_detectors_steps(name, gpus):
    options = dict(re.findall(r'(\S+)=(\d+)', CONFIGS[name].read_text().split('_base_')[0])) if gpus == 1 else {}
    cfg = load_config(str(CONFIGS[name]), {key: int(value) for key, value in options.items()})
    together, is_fcos = cfg.optim_wrapper.get('accumulative_counts', 1), 'fcos' in name
    assert gpus * cfg.train_dataloader.batch_size * together == (16 if is_fcos else 32)
    assert cfg.optim_wrapper.optimizer.lr == (2e-4 if is_fcos else 4e-4)
    assert cfg.param_scheduler[0].end == 500 * together
    assert cfg.param_scheduler[1].milestones == ([16, 22] if is_fcos else [27, 33])


def test_drop_path_rates():
    rates = {name: load_config(str(CONFIGS[name])).model.backbone.drop_path_rate for name in PUBLISHED}
    assert list(rates.values()) == [.5, .3, .3, .5, .5, .6, .4, .7, .5, .5]


def narrow(cfg):
    """Divides RepLKNet's width by NARROWING, keeping its depth and kernels, and lets few proposals reach heads."""
    model = cfg.model
    model.backbone.init_cfg = None
    if model.backbone.type == 'RepLKNet':
        arch = Arch.parse(model.backbone.arch)
        channels = [max(channels // NARROWING, 8) for channels in arch.channels]
        model.backbone.arch = dict(dataclasses.asdict(arch), channels=channels)
        if 'neck' in model:
            model.neck.in_channels = channels
        else:
            model.decode_head.in_channels = channels
        if model.get('auxiliary_head'):
            model.auxiliary_head.in_channels = channels[2]
    if model.test_cfg.get('mode') == 'slide':
        model.test_cfg.update(crop_size=(64, 64), stride=(42, 42))
    for stage in (model.get('train_cfg') or {}).get('rcnn', []):
        stage.sampler.num = 8
    if 'rcnn' in model.test_cfg:
        model.test_cfg.rpn.max_per_img = 8
    return model


def inputs(cfg):
    """Two pictures of 64x64, after the data preprocessor would have seen them."""
    images = torch.randn(2, 3, 64, 64)
    metainfo = dict(img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64), batch_input_shape=(64, 64),
                    scale_factor=(1, 1), img_id=0, flip=False)  # yapf: disable
    if cfg.default_scope == 'mmseg':
        from mmseg.structures import SegDataSample
        sample = SegDataSample(metainfo=metainfo)
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 11, (1, 64, 64)))
        return images, [sample, sample.clone()]
    from mmdet.testing import demo_mm_inputs
    samples = demo_mm_inputs(2, (3, 64, 64), num_items=[3, 2], num_classes=2, with_mask=True)['data_samples']
    for sample in samples:
        sample.gt_instances.labels.zero_()
        sample.set_metainfo(metainfo)
    return images, samples


def test_a_training_step_and_a_prediction(cfg):
    model = MODELS.build(narrow(cfg)).train()
    loss, _ = model.parse_losses(model(*inputs(cfg), mode='loss'))
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in model.parameters() if p.requires_grad)
    with torch.no_grad():
        results = model.eval()(*inputs(cfg), mode='predict')
    if cfg.default_scope == 'mmseg':
        assert results[0].pred_sem_seg.data.shape == (1, 64, 64)
    else:
        assert results[0].pred_instances.bboxes.shape[1:] == (4, )
        assert ('masks' in results[0].pred_instances) == ('roi_head' in cfg.model)


@pytest.mark.parametrize('path', STUDY, ids=lambda path: path.stem)
def test_kernel_size_study(path):
    width, name = re.fullmatch(r'(tiny|31b)_k(\w+?)(?:_alone)?', path.stem).groups()
    cfg = load_config(str(path))
    init_default_scope('mmseg')
    with torch.device('meta'):
        backbone = MODELS.build(cfg.model).backbone
    sizes = {'3': [3] * 4, '7': [7] * 4, '13': [13] * 4, '25': [25, 25, 25, 13], '31': [31, 29, 27, 13]}[name]
    for stage, size in zip(backbone.stages, sizes, strict=True):
        layer = stage.blocks[0].large_kernel
        assert layer.lkb_origin.conv.kernel_size == (size, size)
        small = getattr(layer, 'small_conv', None)
        assert (small is None) == path.stem.endswith('_alone')
        assert small is None or small.conv.kernel_size[0] == min(size, 5)
    assert backbone.arch.channels[0] == dict(tiny=32, **{'31b': 128})[width]
