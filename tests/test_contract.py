"""What the package does with a network, it does with every network: the published ones and one that nobody knows."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from mmreplk import InputError, reparameterized
from mmreplk.benchmarks.flops import count_flops
from mmreplk.layers import MergeableConv
from mmreplk.merging import reparameterize
from mmreplk.mm import BackboneWeightsHook, ExactResumeHook, ReparamHook, RepLKNet, SLaK, StrictLoadHook, UniRepLKNet
from mmreplk.mm.building import build_empty_model
from mmreplk.mm.checks.channels import check_channels
from mmreplk.mm.checks.preflight import check_before_training
from mmreplk.mm.export import export
from mmreplk.mm.inference import Predictor
from mmreplk.networks import NETWORKS
from mmreplk.pictures.filters import filters_of
from mmreplk.pictures.merge_differences import merge_differences
from mmreplk.pictures.receptive_field import contributions
from mmreplk.weights.conversion import convert, describe, reparameterize_checkpoint
from mmreplk.weights.files import read_checkpoint
from tests.conftest import assert_same_bits, copied_state, randomize
from tests.mm.hooks.classifier import Classifier, Logits, Losses, make_runner
from tests.networks.made_up import MadeUp, RegisteredMadeUp

SIZES = dict(layers=[1, 2, 1], channels=[8, 12, 16])
ARCHS = {
    RepLKNet: dict(SIZES, large_kernel_sizes=[13, 9, 7], small_kernel=3),
    UniRepLKNet: dict(SIZES, kernel_sizes=[[3], [13, 0], [7]]),
    SLaK: dict(SIZES, large_kernel_sizes=[13, 9, 7]),
    RegisteredMadeUp: dict(SIZES, extent=9),
}
CLASSES = ('sky', 'road', 'car')


@pytest.fixture(params=ARCHS, ids=lambda network: network.__name__.removeprefix('Registered'))
def network(request):
    return request.param


def build(network, arch=None, **options):
    """A network whose numbers no mistake survives: random statistics, and no small layer scales."""
    model = randomize(network(arch or ARCHS[network], **options))
    for name, parameter in model.named_parameters():
        if name.endswith(('.gamma', '.beta')):
            torch.nn.init.normal_(parameter)
    return model


def two_stages(network, **options):
    """The smallest of its kind, for the runs of a classifier of eight features."""
    kernels = dict(kernel_sizes=[[7], [9]]) if network is UniRepLKNet else dict(large_kernel_sizes=[7, 5])
    own = {} if network is RegisteredMadeUp else kernels
    return network(dict(ARCHS[network], **dict(own, layers=[1, 1], channels=[4, 8])), out_indices=[1], **options)


def classifier(backbone):
    """As the official codes save classifiers: a norm and a head beside the backbone, whose features have no norms."""
    features = set(backbone.norm_names())
    weights = {name: tensor for name, tensor in backbone.state_dict().items() if name not in features}
    weights |= {'norm.weight': torch.ones(16), 'norm.bias': torch.ones(16)}
    return dict(model=weights | {'head.weight': torch.ones(7, 16), 'head.bias': torch.ones(7)}, epoch=299)


def segmentor(network, tmp_path=None, **backbone) -> Config:
    name = network.__name__.removeprefix('Registered')
    return Config(dict(
        default_scope='mmseg', work_dir=str(tmp_path), launcher='none', custom_hooks=[],
        model=dict(
            type='EncoderDecoder', test_cfg=dict(mode='whole'),
            data_preprocessor=dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53],
                                   std=[58.395, 57.12, 57.375], bgr_to_rgb=True),
            backbone=dict(type=name, arch=ARCHS[network], **backbone),
            decode_head=dict(type='UPerHead', in_channels=[8, 12, 16], in_index=[0, 1, 2], channels=8, num_classes=3,
                             align_corners=False, pool_scales=(1, 2), norm_cfg=dict(type='BN'))),
        train_dataloader={}, val_dataloader={},
        test_dataloader=dict(dataset=dict(
            type='BaseSegDataset', metainfo=dict(classes=CLASSES, palette=[[i, 2 * i, 9] for i in range(3)]),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')])),
        test_evaluator=dict(type='IoUMetric')))


def trained(cfg):
    init_default_scope('mmseg')
    return randomize(MODELS.build(copy.deepcopy(cfg.model))).eval()


@torch.no_grad()
@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
def test_the_form_for_inference_computes_the_same(network, dtype):
    model, tolerance = build(network).eval(), 1e-5 if dtype is None else 3e-2
    x = torch.randn(2, 3, 80, 71)
    expected, before = model(x), copied_state(model)

    def check():
        for images in (x, x.contiguous(memory_format=torch.channels_last)):
            for actual, wanted in zip(model(images), expected, strict=True):
                assert actual.dtype == wanted.dtype and actual.shape == wanted.shape
                assert actual.is_contiguous() or not images.is_contiguous(), 'others take maps for contiguous'
                assert (actual - wanted).abs().max() <= tolerance * wanted.abs().max()

    with reparameterized(model, pack=True, dtype=dtype, check=True):
        check()
    with torch.autocast('cpu', torch.bfloat16):
        wanted = model(x)
        with reparameterized(model, pack=True, dtype=dtype):  # autocast rules
            assert all(torch.equal(a, b) for a, b in zip(model(x), wanted, strict=True))
    assert all(torch.equal(actual, wanted) for actual, wanted in zip(model(x), expected, strict=True))
    assert_same_bits(model.state_dict(), before)
    assert reparameterize(model, pack=True, dtype=dtype).large_kernels > 0
    check()


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_all_forms_compute_the_same(network, dtype):
    model = build(network).to(dtype).eval()
    x = torch.randn(2, 3, 80, 71, dtype=dtype)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    with torch.no_grad():
        expected = model(x)

        def check(outs):
            for actual, wanted in zip(outs, expected, strict=True):
                assert (actual - wanted).abs().max() <= tolerance * wanted.abs().max()

        for fuse_bn in (False, True):
            with reparameterized(model, fuse_bn, check=True) as merged:
                assert merged.large_kernels == sum(isinstance(m, MergeableConv) for m in model.modules())
                check(model(x))
        assert model.form_of(model.state_dict()) == 'training'
        for fuse_bn, form in ((False, 'merged'), (True, 'folded')):
            model.reparameterize(fuse_bn)
            check(model(x))
            assert model.form_of(model.state_dict()) == form
            deploy = network(ARCHS[network], deploy=True, fuse_bn=fuse_bn).to(dtype).eval()
            deploy.load_state_dict(model.state_dict())
            assert all(torch.equal(a, b) for a, b in zip(deploy(x), model(x), strict=True))
        with pytest.raises(InputError, match='these weights are merged and folded: load them into .*deploy=True, fuse'):
            build(network).load_state_dict(model.state_dict())


@pytest.mark.parametrize('out_indices', [(0, ), (1, 2), (0, 1)])
def test_what_no_output_uses_is_not_there(network, out_indices):
    whole, part = build(network).eval(), build(network, out_indices=out_indices).eval()
    names = set(part.state_dict())
    assert names <= set(whole.state_dict()) and part.channels == tuple(SIZES['channels'][i] for i in out_indices)
    part.load_state_dict(whole.state_dict())
    x = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        for own, i in zip(part(x), out_indices, strict=True):
            assert torch.equal(own, whole(x)[i])
    # DistributedDataParallel waits for the gradient of every parameter.
    sum(out.square().mean() for out in part.train()(x)).backward()
    assert [name for name, parameter in part.named_parameters() if parameter.grad is None] == []


def test_a_classifier_loads_whatever_is_around_it(network, reports):
    source = build(network)
    for layout in (classifier(source), classifier(source)['model'],
                   dict(state_dict={f'backbone.{k}': v for k, v in source.state_dict().items()}, meta={})):
        model = build(network)
        before = copied_state(model)
        model.load_state_dict(layout)
        for name, tensor in model.state_dict().items():
            is_kept = 'state_dict' not in layout and name in model.norm_names()
            assert torch.equal(tensor, before[name] if is_kept else source.state_dict()[name]), name
        assert f'of its {len(before)} tensors loaded from' in reports[-1]


def test_weights_of_another_size_are_refused_with_what_they_are(network):
    wider = build(network, dict(ARCHS[network], channels=[8, 12, 20]))
    name = network.__name__
    with pytest.raises(InputError, match=rf'do not fit this {name}: .*of a {name} with channels \(8, 12, 20\), not'):
        build(network).load_state_dict(wider.state_dict(), strict=False)
    with pytest.raises(InputError, match=f"do not fit this {name}.*They begin with 'bias', 'weight'"):
        build(network).load_state_dict(torch.nn.Conv2d(3, 8, 3).state_dict(), strict=False)
    arch = network.Arch.of_weights(wider.state_dict())
    assert arch == network.Arch.parse(dict(ARCHS[network], channels=[8, 12, 20]))


def test_layers_for_decay_rise_from_the_image_to_the_heads(network):
    model = build(network)
    depths = {name: model.get_layer_depth(f'backbone.{name}', 'backbone.') for name, _ in model.named_parameters()}
    assert {count for _, count in depths.values()} == {model.num_layers + 2}
    of_stage = [{depths[f'{prefix}{name}'][0] for prefix, module in model.named_modules() if module is block
                 for prefix in [f'{prefix}.'] for name, _ in block.named_parameters()}
                for stage in range(3) for block in model.blocks(stage)]
    assert all(len(found) == 1 for found in of_stage) and of_stage == sorted(of_stage, key=min)
    assert depths[next(iter(depths))][0] == 0 and max(max(found) for found in of_stage) == model.num_layers
    assert {depths[name][0] for name in model.norm_names() if name in depths} <= {model.num_layers + 1}
    cfg = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1., weight_decay=.1),
               constructor='LargeKernelLayerDecayConstructor', paramwise_cfg=dict(decay_rate=.5))
    wrapper = build_optim_wrapper(Classifier(model), cfg)
    rates = {p: group['lr'] for group in wrapper.optimizer.param_groups for p in group['params']}
    for name, parameter in model.named_parameters():
        depth, count = depths[name]
        assert rates[parameter] == pytest.approx(.5**(count - depth - 1))
    with pytest.raises(InputError, match="'nothing' is not a parameter of this"):
        model.get_layer_depth('nothing')


def test_frozen_stages_and_norms_stay(network):
    model = build(network, frozen_stages=2, norm_eval=True).train()
    before = copied_state(model)
    frozen = [p for stage in (0, 1) for m in (*model.entry(stage), *model.blocks(stage), model.output_norm(stage))
              for p in m.parameters()]
    assert frozen and not any(p.requires_grad for p in frozen)
    assert {id(p) for p in model.parameters() if not p.requires_grad} == set(map(id, frozen))
    model(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    assert_same_bits(model.state_dict(), before)


@pytest.mark.parametrize('compiled', [False, True])
def test_checkpointing_changes_memory_only(network, compiled):
    rate = 0. if compiled else .5  # compiled code draws other random numbers
    make = two_stages if compiled else build  # compiling takes seconds a stage
    plain, saving = (randomize(make(network, with_cp=with_cp, drop_path_rate=rate)) for with_cp in (False, True))
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for model in (plain, saving):
        model.train()
        torch.manual_seed(1)
        run = torch.compile(model, backend='aot_eager') if compiled and model is saving else model
        sum(out.square().mean() for out in run(x)).backward()
    for (name, a), b in zip(saving.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b[1].grad, rtol=1e-4, atol=1e-5, msg=name)
    for (name, a), b in zip(saving.named_buffers(), plain.named_buffers(), strict=True):
        torch.testing.assert_close(a, b[1], rtol=1e-5, atol=1e-6, msg=name)


def test_the_hook_evaluates_merged_and_leaves_no_trace(network, tmp_path):
    def run(folder, *hooks):
        losses = Losses()
        torch.manual_seed(0)
        backbone = two_stages(network, drop_path_rate=0.)
        runner = make_runner(tmp_path / folder, losses, *hooks, model=Classifier(backbone))
        runner.train()
        return losses.losses, runner.model.state_dict()

    losses, state = run('plain')
    merged_losses, merged_state = run('merged', ReparamHook(check=True), StrictLoadHook())
    assert losses == merged_losses
    assert_same_bits(merged_state, state)


def test_a_run_is_resumed_to_the_same_bits(network, tmp_path):
    def model():
        torch.manual_seed(0)
        return Classifier(two_stages(network, drop_path_rate=.5))

    def hooks():
        return ExactResumeHook(), BackboneWeightsHook(), StrictLoadHook(), ReparamHook()

    whole = make_runner(tmp_path / 'whole', *hooks(), model=model(), metric=Logits())
    whole.train()
    make_runner(tmp_path / 'cut', *hooks(), model=model(), metric=Logits(), max_iters=4).train()
    rest = make_runner(tmp_path / 'cut', *hooks(), model=model(), metric=Logits(), resume=True)
    rest.train()
    assert rest.iter == whole.iter == 6
    assert_same_bits(rest.model.state_dict(), whole.model.state_dict())


def test_wrong_configs_are_refused_before_training(network, tmp_path):
    cfg = segmentor(network)
    check_channels(cfg)
    cfg.model.decode_head.in_channels = [8, 12, 20]
    with pytest.raises(InputError, match=r'model.decode_head.in_channels must be \[8, 12, 16\], which the back'):
        check_channels(cfg)
    path = tmp_path / 'wider.pth'
    torch.save(build(network, dict(ARCHS[network], channels=[8, 12, 20])).state_dict(), path)
    cfg = segmentor(network, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    with pytest.raises(InputError, match=r'checkpoint .*wider.pth.*with channels \(8, 12, 20\), not \(8, 12, 16\)'):
        check_before_training(cfg)
    with pytest.raises(InputError, match="has no argument 'drop_rate'; it takes "):
        check_before_training(segmentor(network, drop_rate=.1))


def test_multiply_adds_are_counted(network):
    model = build_empty_model(segmentor(network))
    training = count_flops(model, (64, 96))['parts']['backbone']
    model.backbone.reparameterize(fuse_bn=True)
    merged = count_flops(model, (64, 96))['parts']['backbone']
    assert 0 < merged['flops'] < training['flops'] and merged['params'] < training['params']


def test_receptive_field_and_filters_are_seen(network):
    model = build(network).eval()
    seen = contributions(model, [torch.randn(1, 3, 96, 96)])
    assert seen.shape == (96, 96) and (seen > 0).sum() > 1000
    kernels = filters_of(model)
    assert len(kernels) == sum(len(m.merges) for m in model.modules() if isinstance(m, MergeableConv))
    for kernel in kernels:
        assert kernel.energy.sum() == pytest.approx(1) and kernel.energy.shape == kernel.filters.shape[1:]
    differences = merge_differences(model, [torch.randn(1, 3, 64, 64)])
    assert {row['stage'] for row in differences['features']} == {0, 1, 2}
    assert 0 < max(row['max_rel'] for row in differences['layers']) < 1e-4


def test_exported_it_computes_the_same(network, tmp_path):
    cfg = segmentor(network, out_indices=[1])  # exporting takes seconds a stage
    cfg.model.decode_head = dict(type='FCNHead', in_channels=12, in_index=0, channels=8, num_convs=1, num_classes=3,
                                 concat_input=False, align_corners=False, norm_cfg=dict(type='BN'))
    model = trained(cfg)
    saved = dict(meta=dict(dataset_meta=dict(classes=CLASSES, palette=[[0, 0, 0]] * 3)), state_dict=model.state_dict())
    exported = export(cfg, saved, 'it', shape=(64, 96))
    assert max(check.difference for check in exported.checks) < 1e-4
    session = onnxruntime.InferenceSession(exported.data)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 70, 81)).astype(np.float32)
    (logits, ) = session.run(None, {session.get_inputs()[0].name: pixels})
    assert logits.shape == (1, 3, 70, 81)


@pytest.mark.parametrize('form', ['training', 'merged', 'folded'])
def test_pictures_are_predicted_from_any_form(network, tmp_path, form):
    cfg, path = segmentor(network), tmp_path / 'model.pth'
    model = trained(cfg)
    picture = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    if form != 'training':
        model.backbone.reparameterize(fuse_bn=form == 'folded')
    torch.save(dict(meta={}, state_dict=model.state_dict()), path)
    (prediction, ) = Predictor(cfg, path, device='cpu')([picture])
    with torch.no_grad():
        pixels = torch.from_numpy(picture).permute(2, 0, 1)
        expected = model.test_step(dict(inputs=[pixels], data_samples=[sample()]))[0].pred_sem_seg.data[0]
    assert (prediction.labels == expected.numpy()).mean() > 0.999
    (prediction, ) = Predictor(cfg, path, device='cpu', dtype='bfloat16')([picture])
    assert (prediction.labels == expected.numpy()).mean() > 0.95
    with pytest.raises(InputError, match="dtype must be one of float32, bfloat16, got 'half'"):
        Predictor(cfg, path, dtype='half')


def sample():
    from mmseg.structures import SegDataSample
    return SegDataSample(metainfo=dict(img_shape=(64, 80), ori_shape=(64, 80), pad_shape=(64, 80)))


def test_checkpoints_are_described_converted_and_merged(network, tmp_path, monkeypatch):
    monkeypatch.setitem(NETWORKS, 'MadeUp', MadeUp)
    name = network.__name__.removeprefix('Registered')
    model = build(network).eval()
    told = describe(classifier(model))
    assert told['network'] == f'{name} of another architecture, training form, 3 input channels'
    assert told['source'] == 'official classification checkpoint'
    convert(classifier(model), tmp_path / 'backbone.pth')
    own = read_checkpoint(tmp_path / 'backbone.pth')['state_dict']
    assert set(own) == set(model.state_dict()) - set(model.norm_names())
    dense = dict(state_dict={f'backbone.{k}': v for k, v in model.state_dict().items()} | {'head.w': torch.ones(1)},
                 meta=dict(mmseg_version='0.27.0'))
    for fuse_bn in (False, True):
        saved = reparameterize_checkpoint(dense, fuse_bn)
        deploy = network(ARCHS[network], deploy=True, fuse_bn=fuse_bn).eval()
        deploy.load_state_dict(saved)
        merged = copy.deepcopy(model)
        reparameterize(merged, fuse_bn)
        assert_same_bits(deploy.state_dict(), merged.state_dict())
        assert 'head.w' in saved['state_dict']


def test_the_memory_format_is_kept_from_stem_to_features(network):
    model = build(network).eval().to(memory_format=torch.channels_last)
    torn = []

    def watch(module, inputs, output):
        for tensor in (*inputs, output):
            is_map = isinstance(tensor, torch.Tensor) and tensor.ndim == 4 and min(tensor.shape[1:]) > 1
            if is_map and not tensor.is_contiguous(memory_format=torch.channels_last) and not is_nhwc(tensor):
                torn.append((type(module).__name__, tuple(tensor.shape), tensor.stride()))

    def is_nhwc(tensor):
        return tensor.is_contiguous() and type(tensor) is torch.Tensor and tensor.shape[-1] in widths

    widths = {c * f for c in SIZES['channels'] for f in (1, 4)}
    for module in model.modules():
        if not isinstance(module, torch.nn.ModuleList | torch.nn.ModuleDict):
            module.register_forward_hook(watch)
    x = torch.randn(2, 3, 64, 96).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for _ in range(2):
            outs = model(x)
            assert all(out.is_contiguous(memory_format=torch.channels_last) for out in outs if min(out.shape[2:]) > 1)
            assert not torn, torn[:3]
            model.reparameterize(fuse_bn=True)
