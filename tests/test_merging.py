import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmreplk import InputError, ReparamLargeKernelConv, RepLKNet, reparameterize, reparameterized
from mmreplk.layers.folding import fold_bn
from tests.conftest import assert_same_bits, copied_state, randomize

ARCH = dict(large_kernel_sizes=[13, 7, 5], layers=[1, 2, 1], channels=[4, 8, 12], small_kernel=3)


@pytest.mark.parametrize('affine', [False, True])
@pytest.mark.parametrize('has_bias', [False, True])
@pytest.mark.parametrize('has_bn', [False, True])
def test_bn_is_folded_into_the_convolution_before_or_after_it(affine, has_bias, has_bn):
    for size in (1, 3):
        before, bn = (randomize(nn.BatchNorm2d(c, affine=affine)).double().eval() for c in (3, 4))
        conv = randomize(nn.Conv2d(3, 4, size, bias=has_bias)).double()
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        first = before if size == 1 else None
        expected = conv(before(x) if first else x)
        weight, bias = fold_bn(conv, bn if has_bn else None, first)
        torch.testing.assert_close(torch.conv2d(x, weight, bias), bn(expected) if has_bn else expected)


def network(**options):
    return randomize(RepLKNet(ARCH, out_indices=[0, 1, 2], **options)).eval()


@pytest.mark.parametrize('feature_norms', [False, True])
def test_a_backbone_is_folded_for_good(feature_norms):
    model = network()
    if feature_norms:
        model = randomize(RepLKNet(dict(ARCH, norm_intermediate_features=True), out_indices=[0, 2])).eval()
    model = model.double()
    x = torch.randn(2, 3, 45, 70, dtype=torch.float64)
    expected = model(x)
    model.reparameterize()
    merged = copied_state(model)
    assert not model.is_folded
    model.reparameterize(fuse_bn=True)
    folded = copied_state(model)
    model.reparameterize(fuse_bn=True)
    assert model.is_folded and len(folded) < len(merged)
    assert_same_bits(model.state_dict(), folded)
    for actual, wanted in zip(model(x), expected, strict=True):
        torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-9 * wanted.abs().max().item())
    norms = [name for name, m in model.named_modules() if isinstance(m, _BatchNorm)]
    assert norms == (['stages.0.norm', 'stages.2.norm'] if feature_norms else [])


@pytest.mark.parametrize('fuse_bn', [False, True])
def test_the_deploy_form_loads_what_was_merged_or_folded(fuse_bn):
    model = network()
    model.reparameterize(fuse_bn)
    deploy = RepLKNet(ARCH, out_indices=[0, 1, 2], deploy=True, fuse_bn=fuse_bn).eval()
    deploy.load_state_dict(model.state_dict(), strict=True)
    x = torch.randn(1, 3, 40, 40)
    assert all(torch.equal(a, b) for a, b in zip(deploy(x), model(x), strict=True))
    with pytest.raises(InputError, match='fuse_bn'):
        RepLKNet(ARCH, out_indices=[0], fuse_bn=True)


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.bfloat16, 5e-2), (torch.float16, 1e-2)])
def test_half_precision_is_folded_in_float32_and_cast_once(dtype, tolerance):
    model = network().to(dtype)
    exact = copy.deepcopy(model).double()
    exact.reparameterize(fuse_bn=True)
    x = torch.randn(1, 3, 64, 64, dtype=dtype)
    model.reparameterize(fuse_bn=True)
    for (name, own), wanted in zip(model.state_dict().items(), exact.state_dict().values(), strict=True):
        assert own.dtype == dtype
        torch.testing.assert_close(own, wanted.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-6, msg=name)
    for actual, wanted in zip(model(x), exact(x.double()), strict=True):
        assert (actual.double() - wanted).abs().max() < tolerance * wanted.abs().max()


class Segmentor(nn.Module):
    """A backbone, a head of MMCV's parts, and what must not be folded."""

    def __init__(self):
        super().__init__()
        self.backbone = RepLKNet(ARCH, out_indices=[0, 1, 2])
        self.convs = nn.ModuleList(ConvModule(c, 6, 3, padding=1, norm_cfg=dict(type='BN')) for c in (4, 8, 12))
        self.convs[2].conv = nn.Conv2d(12, 6, 3, padding=1, bias=True)
        self.shared = nn.ModuleList(ConvModule(6, 6, 3, padding=1, norm_cfg=dict(type='BN')) for _ in range(2))
        self.shared[1].conv = self.shared[0].conv
        self.first = ConvModule(6, 6, 3, padding=1, norm_cfg=dict(type='BN'), order=('norm', 'conv', 'act'))
        self.grouped = ConvModule(6, 6, 3, norm_cfg=dict(type='GN', num_groups=2))
        self.reflecting = ConvModule(6, 6, 3, padding=1, padding_mode='reflect', norm_cfg=dict(type='BN', affine=False))
        self.extra = ReparamLargeKernelConv(6, 6, 9, groups=6, small_kernel=3)

    def forward(self, x):
        size = (9, 11)
        outs = [nn.functional.adaptive_avg_pool2d(conv(f), size)
                for conv, f in zip(self.convs, self.backbone(x), strict=True)]
        y = self.shared[1](self.shared[0](sum(outs)), activate=False)
        return self.extra(self.reflecting(self.grouped(self.first(y))))


def test_a_model_is_evaluated_folded_and_keeps_no_trace():
    model = randomize(Segmentor()).eval()
    before, parameters = copied_state(model), list(model.parameters())
    x = torch.randn(2, 3, 64, 80)
    expected = model(x)
    with reparameterized(model) as merged:
        # All BatchNorms of the backbone outside its four large kernels, and those of six ConvModules.
        norms = sum(isinstance(m, _BatchNorm) for m in model.backbone.modules()) - 2 * 4
        assert merged == (5, norms + 6)
        actual = model(x)
        with reparameterized(model) as nothing:
            assert nothing == (0, 0)
        assert torch.equal(model(x), actual)
        assert_same_bits(model.state_dict(), before)
        assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
        assert not torch.equal(model.train()(x), actual), 'training must run the branches'
        model.eval().load_state_dict(before)
    assert not torch.equal(actual, expected), 'the merged form did not run'
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
    assert torch.equal(model(x), expected)
    with reparameterized(model, fuse_bn=False) as merged:
        assert merged == (5, 0)
        assert not torch.equal(model(x), actual)
    assert not any('forward' in vars(m) for m in model.modules())


@torch.no_grad()  # with gradients, other kernels may compute the same
def test_a_model_is_folded_for_good():
    model = randomize(Segmentor()).eval()
    x = torch.randn(2, 3, 64, 80)
    expected = model(x)
    with reparameterized(model) as merged:
        actual = model(x)
    assert reparameterize(model) == merged
    torch.testing.assert_close(model(x), actual, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    folded = copied_state(model)
    assert reparameterize(model) == (0, 0)
    assert_same_bits(model.state_dict(), folded)


def test_it_ends_when_the_body_raises():
    model = network()
    x = torch.randn(1, 3, 32, 32)
    expected = model(x)
    with pytest.raises(KeyError), reparameterized(model):
        raise KeyError
    assert all(torch.equal(a, b) for a, b in zip(model(x), expected, strict=True))


def test_check_names_what_differs():
    model = network()
    with reparameterized(model, check=True):
        model(torch.randn(1, 3, 32, 32))
    with reparameterized(model, check=True):
        model.stem[0].bn.running_mean.add_(1)
        with pytest.raises(InputError, match=r'merged form of RepLKNet differs by .*e[+-]\d+ of the largest value'):
            model(torch.randn(1, 3, 32, 32))


class Recorder:
    """Holds what no copy can be made of."""

    def __init__(self):
        self.calls = []

    def __deepcopy__(self, memo):
        raise TypeError('a recorder is not to be copied')

    def __call__(self, module, *_):
        self.calls.append(type(module).__name__)


def test_hooks_are_neither_copied_nor_called_twice():
    model, recorder = network(), Recorder()
    for module in (model, model.stages[0], next(m for m in model.modules() if isinstance(m, ReparamLargeKernelConv))):
        module.register_forward_hook(recorder)
        module.register_forward_pre_hook(recorder)
    model.register_full_backward_hook(recorder)
    with reparameterized(model) as merged, torch.no_grad():
        assert merged.large_kernels == 4
        model(torch.randn(1, 3, 32, 32))
    assert recorder.calls == ['RepLKNet', 'RepLKNet'], 'those of the model alone, once each'
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 32))
    assert recorder.calls.count('ReparamLargeKernelConv') == 2


@pytest.mark.parametrize('name', ['backbone', 'backbone.stages.1.blocks.0', 'backbone.stages.1.blocks.0.large_kernel'])
def test_what_is_below_a_replaced_forward_is_merged(name):
    """MMEngine's activation_checkpointing replaces the forward of what it is told."""
    model = randomize(Segmentor()).eval()
    x = torch.randn(2, 3, 64, 80)
    expected = model(x)
    turn_on_activation_checkpointing(model, [name])
    replaced, branches = vars(dict(model.named_modules())[name])['forward'], Recorder()
    for kernel in (m for m in model.modules() if isinstance(m, ReparamLargeKernelConv)):
        for part in list(kernel.modules())[1:]:
            part.register_forward_hook(branches)
    with reparameterized(model) as merged:
        # One whose own forward is replaced stays as it is.
        assert merged.large_kernels == (4 if name.endswith('large_kernel') else 5)
        actual = model(x)
        assert bool(branches.calls) == name.endswith('large_kernel')
    assert vars(dict(model.named_modules())[name])['forward'] is replaced
    assert not torch.equal(actual, expected), 'the merged form did not run'
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_a_replaced_forward_inside_is_not_folded_past():
    model = randomize(Segmentor()).eval()
    x = torch.randn(2, 3, 64, 80)
    expected = model(x)
    turn_on_activation_checkpointing(model, ['convs.0.conv', 'backbone.stem.0.conv'])
    with reparameterized(model) as merged:
        assert merged.large_kernels == 5
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-4 * expected.abs().max().item())


class Doubling(ConvModule):
    """Does something between the convolution and its norm."""

    def forward(self, x):
        return self.activate(self.norm(self.conv(x) * 2))


@torch.no_grad()
def test_only_the_very_class_is_folded():
    module = randomize(Doubling(3, 4, 3, norm_cfg=dict(type='BN'))).eval()
    x = torch.randn(1, 3, 8, 8)
    expected = module(x)
    with reparameterized(module) as merged:
        assert merged == (0, 0) and torch.equal(module(x), expected)


@torch.no_grad()
def test_a_norm_that_the_convolution_reads_itself_stays():
    module = randomize(ConvModule(3, 4, 3, norm_cfg=dict(type='BN'), efficient_conv_bn_eval=True)).eval()
    x = torch.randn(1, 3, 8, 8)
    expected = module(x)
    with reparameterized(module, check=True):
        torch.testing.assert_close(module(x), expected, rtol=1e-5, atol=1e-5)


def test_outputs_of_nothing_but_zeros_do_not_differ():
    module = randomize(ConvModule(3, 4, 3, norm_cfg=dict(type='BN'))).eval()
    for parameter in (*module.parameters(), module.norm.running_mean):
        parameter.data.zero_()
    with reparameterized(module, check=True) as merged:
        assert merged.batch_norms == 1 and not module(torch.randn(1, 3, 8, 8)).any()
