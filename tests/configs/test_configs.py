"""Every config builds as it is, and runs and learns at its real depth and a fraction of its width."""

import re

import pytest
import torch
import yaml
from mmengine.hooks import EMAHook
from mmengine.registry import MODELS, init_default_scope

from mmreplk.benchmarks import count_flops
from mmreplk.mm.building import build_empty_model
from mmreplk.mm.config import load_config
from mmreplk.weights import PUBLISHED as KNOWN
from tests.configs.narrowing import CONFIGS, ROOT, config_of, inputs, narrow

STUDY = sorted(path for path in (ROOT / 'configs/kernel_sizes').glob('*.py') if not path.stem.startswith('base'))
PUBLISHED = {model['Name']: model for model in yaml.safe_load((ROOT / 'configs/metafile.yml').read_text())['Models']}
# Of networks that are published, without published results.
UNPUBLISHED = {
    'upernet_unireplknet_t_cityscapes_769', 'upernet_slak_t_cityscapes_769', 'mask2former_replknet31b_ade20k',
    'mask2former_unireplknet_l_ade20k_in22k_640', 'dino_replknet31b_coco', 'dino_unireplknet_l_coco_in22k'
}
# The smallest of each method is run: larger ones, and those that begin with other weights, differ in numbers alone.
RUN = [name for name in CONFIGS
       if not re.search('replknet31.*in22k|unireplknet_[sblx]|slak_[sb]|mask2former|dino', name)]


@pytest.fixture(params=CONFIGS)
def cfg(request):
    return config_of(request.param)


def test_builds_at_full_width(cfg):
    model = build_empty_model(cfg)
    assert {'ReparamHook', 'StrictLoadHook'} <= {hook.type for hook in cfg.custom_hooks}
    assert cfg.default_hooks.checkpoint.backend_args.backend == 'mmreplk.atomic_local'
    assert cfg.default_hooks.checkpoint.max_keep_ckpts >= 2
    length = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
    assert length == cfg.param_scheduler[-1].end and cfg.tta_model and cfg.tta_pipeline
    is_xl = cfg.model.backbone.type == 'RepLKNet' and cfg.model.backbone.get('arch') == 'XL'
    assert cfg.model.data_preprocessor.mean[0] == (127.5 if is_xl else 123.675)
    classes = cfg.train_dataloader.dataset.get('metainfo', {}).get('classes')
    if cfg.default_scope == 'mmseg':
        assert cfg.model.data_preprocessor.size == next(
            t.crop_size for t in cfg.train_dataloader.dataset.pipeline if t.type == 'RandomCrop')
        assert model.decode_head.num_classes == (
            len(classes) if classes else dict(ADE20KDataset=150, CityscapesDataset=19)[cfg.dataset_type])
    else:
        heads = model.roi_head.bbox_head if hasattr(model, 'roi_head') else [model.bbox_head]
        assert {head.num_classes for head in heads} == {len(classes) if classes else 80}


@pytest.mark.parametrize('name', [name for name in PUBLISHED if name != 'cascade_mask_rcnn_slak_t_coco'])
def test_published_figures(name):
    """Parameters merged, to the last digit; multiply-adds within 2 %, merged ones .1 %: as docs/model_zoo.md says."""
    meta = PUBLISHED[name]['Metadata']
    shape, form = tuple(map(int, meta['FLOPs Resolution'].split('x'))), meta['Published Form']
    model = build_empty_model(config_of(name))
    if form == 'merged':
        model.backbone.reparameterize(fuse_bn=True)
    figures = count_flops(model, shape)
    assert figures['flops'] == sum(part['flops'] for part in figures['parts'].values())
    flops, published = figures['flops'] / 1e9, meta['Published FLOPs (G)']
    if form == 'sparse':
        # 40 % of the backbone's weights are zero, more of them in layers that cost more.
        backbone, auxiliary = figures['parts']['backbone'], sum(p.numel() for p in model.auxiliary_head.parameters())
        assert flops - .4 * backbone['flops'] / 1e9 == pytest.approx(published, rel=.035)
        params = (figures['params'] + auxiliary - .4 * backbone['params']) / 1e6
        assert params == pytest.approx(meta['Published Parameters (M)'], rel=.03)
        return
    assert flops == pytest.approx(published, rel=.02 if form == 'training' else .001)
    if 'cityscapes' in name:
        # What was published is a network of one feed-forward block less.
        del model.backbone.stages[2].blocks[-1]
        assert int(count_flops(model, shape)['flops'] / 1e9) == published
    model.backbone.reparameterize(fuse_bn=True)
    params = sum(p.numel() for key, p in model.named_parameters() if not key.startswith('auxiliary_head')) / 1e6
    # Of these two, half a million more is published.
    inexact = ('cascade_mask_rcnn_unireplknet_t_coco', 'cascade_mask_rcnn_unireplknet_l_coco_in22k')
    assert round(params + .6 * (name in inexact)) == meta['Published Parameters (M)']


def test_every_published_model_is_in_the_index():
    assert yaml.safe_load((ROOT / 'model-index.yml').read_text()) == dict(Import=['configs/metafile.yml'])
    real = {name for name in CONFIGS if re.search('replknet|slak', name) and 'tiny' not in name}
    assert set(PUBLISHED) == real - UNPUBLISHED and real >= UNPUBLISHED
    for name, model in PUBLISHED.items():
        assert model['Config'] == f'configs/{name}.py' and model['Metadata']['Results From'] == 'paper'
        # MIM puts lists into lower case, whatever is in them.
        assert all(isinstance(item, str) for value in model['Metadata'].values() if isinstance(value, list)
                   for item in value)


@pytest.mark.parametrize('name', [*PUBLISHED, *sorted(UNPUBLISHED)])
def test_weights_are_those_of_the_table(name):
    """What a config begins with is of its network and size, and the index has the address of what it ends with."""
    weights = on(name, 8).model.backbone
    begin = KNOWN[weights.init_cfg.checkpoint]
    assert (begin.network, begin.arch, begin.kind) == (weights.type, weights.arch, 'classifier')
    pre_training = 'ImageNet-22K' if 'in22k' in name else 'MegData-73M' if 'replknetxl' in name else 'ImageNet-1K'
    assert begin.data.split(',')[0] == pre_training
    if PUBLISHED.get(name, {}).get('Official Weights'):
        end = next(known for known in KNOWN.values() if PUBLISHED[name]['Official Weights'] in (known.url, known.page))
        assert (end.network, end.arch) == (weights.type, weights.arch)
        metrics = [f'{value:.1f}' for result in PUBLISHED[name]['Results'] for value in result['Metrics'].values()]
        assert all(metric in end.result for metric in (metrics[:1] if end.kind == 'segmentor' else metrics))


OFFICIAL_RUNS = dict(  # GPUs x images, steps, warm-up
    upernet_replknet31b_ade20k=(64 * 2, 40_000, 400),
    upernet_replknet31b_ade20k_in22k_640=(64 * 2, 40_000, 400),
    upernet_replknet31l_ade20k_in22k_640=(64 * 1, 80_000, 800),
    upernet_replknetxl_ade20k_640=(16 * 2, 160_000, 1500),
    upernet_replknet31b_cityscapes_769=(32 * 2, 20_000, 400))
# By config of UniRepLKNet and SLaK: stochastic depth, and the decay of learning rates.
DECAYS = dict(
    upernet_unireplknet_t_ade20k=(.2, dict(decay_rate=1.0)),
    upernet_unireplknet_s_ade20k=(.3, dict(decay_rate=.9)),
    upernet_unireplknet_s_ade20k_in22k=(.3, dict(decay_rate=.9)),
    upernet_unireplknet_s_ade20k_in22k_640=(.3, dict(decay_rate=.9)),
    upernet_unireplknet_b_ade20k_in22k_640=(.3, dict(decay_rate=.9)),
    upernet_unireplknet_l_ade20k_in22k_640=(.4, dict(decay_rate=.85)),
    upernet_unireplknet_xl_ade20k_in22k_640=(.4, dict(decay_rate=.85)),
    upernet_slak_t_ade20k=(.4, dict(decay_rate=.9, decay_type='stage_wise', num_layers=6)),
    upernet_slak_s_ade20k=(.3, dict(decay_rate=.9, decay_type='stage_wise', num_layers=12)),
    upernet_slak_b_ade20k=(.4, dict(decay_rate=.9, decay_type='stage_wise', num_layers=12)),
    cascade_mask_rcnn_unireplknet_t_coco=(.3, dict(decay_rate=.8, num_layers=12)),
    cascade_mask_rcnn_unireplknet_s_coco=(.5, dict(decay_rate=.8, num_layers=12)),
    cascade_mask_rcnn_unireplknet_s_coco_in22k=(.5, dict(decay_rate=.8, num_layers=12)),
    cascade_mask_rcnn_unireplknet_b_coco_in22k=(.6, dict(decay_rate=.8, num_layers=12)),
    cascade_mask_rcnn_unireplknet_l_coco_in22k=(.7, dict(decay_rate=.7, num_layers=12)),
    cascade_mask_rcnn_unireplknet_xl_coco_in22k=(.7, dict(decay_rate=.7, num_layers=12)),
    cascade_mask_rcnn_slak_t_coco=(.4, dict(decay_rate=.7)))


def on(name, gpus):
    """The config for so many GPUs: for 8 as it is, for one with the options that its head names."""
    head = CONFIGS[name].read_text().split('_base_')[0]
    options = dict(re.findall(r'(\S+)=(\d+)', head)) if gpus == 1 else {}
    options = {key: int(value) for key, value in options.items()}
    return load_config(str(CONFIGS[name]), options) if options else config_of(name)


@pytest.mark.parametrize('gpus', [8, 1])
@pytest.mark.parametrize('name', OFFICIAL_RUNS)
def test_steps_are_those_of_the_official_run(name, gpus):
    cfg = on(name, gpus)
    together, (images, steps, warm_up) = cfg.optim_wrapper.accumulative_counts, OFFICIAL_RUNS[name]
    assert gpus * cfg.train_dataloader.batch_size * together == images
    assert cfg.train_cfg.max_iters == steps * together == cfg.param_scheduler[1].end
    assert cfg.param_scheduler[0].end == warm_up * together == cfg.param_scheduler[1].begin
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.betas, optimizer.weight_decay) == ('AdamW', 2e-4, (0.9, 0.999), .05)
    assert cfg.optim_wrapper.paramwise_cfg == dict(norm_decay_mult=0)
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size


@pytest.mark.parametrize('gpus', [8, 1])
@pytest.mark.parametrize('name', [name for name in PUBLISHED if 'coco' in name and name not in DECAYS])
def test_detectors_steps(name, gpus):
    cfg = on(name, gpus)
    together, is_fcos = cfg.optim_wrapper.get('accumulative_counts', 1), 'fcos' in name
    assert gpus * cfg.train_dataloader.batch_size * together == (16 if is_fcos else 32)
    assert cfg.optim_wrapper.optimizer.lr == (2e-4 if is_fcos else 4e-4)
    assert cfg.param_scheduler[0].end == 500 * together
    assert cfg.param_scheduler[1].milestones == ([16, 22] if is_fcos else [27, 33])


@pytest.mark.parametrize('gpus', [8, 1])
@pytest.mark.parametrize('name', [*DECAYS, *sorted(UNPUBLISHED)])
def test_steps_with_decaying_rates(name, gpus):
    cfg = on(name, gpus)
    together, scheduler = cfg.optim_wrapper.get('accumulative_counts', 1), cfg.param_scheduler
    assert gpus * cfg.train_dataloader.batch_size * together == 16 == cfg.auto_scale_lr.base_batch_size
    assert (scheduler[0].start_factor, scheduler[0].end) == ((.001, 500 * together) if 'coco' in name else
                                                             (1e-6, 1500 * together))
    if 'coco' in name:
        epochs, milestones = (12, [11]) if 'dino' in name else (36, [27, 33])
        assert cfg.train_cfg.max_epochs == scheduler[1].end == epochs and scheduler[1].milestones == milestones
    else:
        steps = 80_000 if 'cityscapes' in name else 160_000
        assert cfg.train_cfg.max_iters == scheduler[1].end == steps * together
        assert (scheduler[1].power, scheduler[1].begin) == (1.0, scheduler[0].end)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.betas) == ('AdamW', (0.9, 0.999))
    assert optimizer.lr == (2e-4 if name == 'cascade_mask_rcnn_slak_t_coco' else 1e-4)
    assert optimizer.weight_decay == (1e-4 if 'dino' in name else .05)
    assert cfg.optim_wrapper.constructor == 'LargeKernelLayerDecayConstructor'
    if name in DECAYS:
        assert (cfg.model.backbone.drop_path_rate, cfg.optim_wrapper.paramwise_cfg) == DECAYS[name]
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert ('KeepSparsityHook' in hooks) == ('slak' in name)
    assert ('EMAHook' in hooks) == ('rcnn_unireplknet' in name and 'in22k' in name)


def test_the_average_of_detectors_is_the_official_one():
    cfg = config_of('cascade_mask_rcnn_unireplknet_xl_coco_in22k')
    (hook, ) = [dict(hook) for hook in cfg.custom_hooks if hook.type == 'EMAHook']
    average = EMAHook(**{key: value for key, value in hook.items() if key != 'type'}).ema_cfg
    model = torch.nn.BatchNorm1d(2)
    averaged = MODELS.build(average, default_args=dict(model=model))
    model.running_mean += 1
    averaged.update_parameters(model)
    averaged.update_parameters(model)
    # The official hook begins fast: 1e-4 after some thousand steps, nearly 1 at the second.
    assert type(averaged).__name__ == 'ExpMomentumEMA' and averaged.momentum == 1e-4 and averaged.gamma == 2000
    assert averaged.module.running_mean.tolist() == pytest.approx([1, 1], rel=1e-2)


@pytest.mark.parametrize('name', [name for name in DECAYS if 'ade20k' in name])
def test_sizes_of_ade20k(name):
    """UniRepLKNet's images and crops grow together and are tested whole; SLaK's are tested in windows."""
    cfg, side = on(name, 8), 640 if '640' in name else 512
    train, test = cfg.train_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline
    assert cfg.val_dataloader.dataset.pipeline == test
    assert (train[2].scale, train[3].crop_size, test[1].scale) == ((4 * side, side), (side, side), (4 * side, side))
    scales = [resize.scale for resize in cfg.tta_pipeline[1].transforms[0]]
    assert scales == [(int(4 * side * ratio), int(side * ratio)) for ratio in (.5, .75, 1., 1.25, 1.5, 1.75)]
    to_multiple = dict(type='ResizeToMultiple', size_divisor=32)
    if 'slak' in name:
        assert cfg.model.test_cfg == dict(mode='slide', crop_size=(512, 512), stride=(341, 341))
        assert to_multiple not in test
    else:
        assert cfg.model.test_cfg == dict(mode='whole') and cfg.tta_pipeline[1].transforms[1] == [to_multiple]
        assert [step.type for step in test[2:]] == ['ResizeToMultiple', 'LoadAnnotations', 'PackSegInputs']


@pytest.mark.parametrize('network', ['unireplknet', 'slak'])
def test_tiny_networks_cost_the_same(network):
    costs = [count_flops(build_empty_model(on(f'upernet_{name}_tiny_camvid', 8)), (256, 256))['flops']
             for name in ('replknet', network)]
    assert costs[1] == pytest.approx(costs[0], rel=.06)


def test_drop_path_rates():
    rates = {name: config_of(name).model.backbone.drop_path_rate for name in PUBLISHED if name not in DECAYS}
    assert list(rates.values()) == [.5, .3, .3, .5, .5, .6, .4, .7, .5, .5]


@pytest.mark.parametrize('name', RUN)
def test_a_training_step_and_a_prediction(name):
    cfg = config_of(name)
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
    base, name = re.fullmatch(r'(tiny|31b|surroundings)_k(\w+?)(?:_alone)?', path.stem).groups()
    cfg = load_config(str(path))
    init_default_scope('mmseg')
    with torch.device('meta'):
        backbone = MODELS.build(cfg.model).backbone
    sizes = {'3': [3] * 4, '7': [7] * 4, '13': [13] * 4, '25': [25, 25, 25, 13], '31': [31, 29, 27, 13]}[name]
    if base == 'surroundings':
        sizes = [31, 29] if name == '31' else [int(name)] * 2
    for stage, size in zip(backbone.stages, sizes, strict=True):
        layer = stage.blocks[0].large_kernel
        assert layer.lkb_origin.conv.kernel_size == (size, size)
        small = getattr(layer, 'small_conv', None)
        assert (small is None) == path.stem.endswith('_alone')
        assert small is None or small.conv.kernel_size[0] == min(size, 5)
    assert backbone.arch.channels[0] == {'tiny': 32, '31b': 128, 'surroundings': 32}[base]
