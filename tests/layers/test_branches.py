import copy
import functools
import pickle

import pytest
import torch
from torch import nn

from mmreplk import InputError, ReparamLargeKernelConv
from mmreplk.layers import Branch, LargeKernelConv2d, MergeableConv
from tests.conftest import assert_same_bits, copied_state, randomize

LAYERS = [
    dict(in_channels=4, out_channels=4, kernel_size=31, groups=4, small_kernel=5),
    dict(in_channels=4, out_channels=4, kernel_size=13, groups=4, small_kernel=13, activation='relu'),
    dict(in_channels=4, out_channels=4, kernel_size=27, groups=4),
    dict(in_channels=4, out_channels=4, kernel_size=7, groups=4, small_kernel=1, stride=2),
    dict(in_channels=4, out_channels=8, kernel_size=7, groups=2, small_kernel=3),
    dict(in_channels=3, out_channels=5, kernel_size=5, small_kernel=3, stride=3, activation='relu'),
]


def build(options, dtype=torch.float64):
    return randomize(ReparamLargeKernelConv(**options)).to(dtype).eval()


@pytest.mark.parametrize('options', LAYERS, ids=str)
def test_merging_is_exact_and_idempotent(options):
    layer = build(options)
    x = torch.randn(2, options['in_channels'], 21, 18, dtype=torch.float64)
    expected = layer(x)
    conv = layer.lkb_origin.conv
    layer.reparameterize()
    merged = copied_state(layer)
    layer.reparameterize()
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    assert_same_bits(layer.state_dict(), merged)
    assert list(merged) == ['lkb_reparam.weight', 'lkb_reparam.bias']
    for name in ('stride', 'padding', 'groups', 'kernel_size', 'in_channels', 'out_channels'):
        assert getattr(layer.lkb_reparam, name) == getattr(conv, name)
    assert type(layer.lkb_reparam) is type(conv) is LargeKernelConv2d


def test_merged_layer_keeps_what_it_was():
    layer = build(LAYERS[0], torch.float32).requires_grad_(False)
    layer.reparameterize()
    assert not layer.lkb_reparam.weight.requires_grad and not layer.lkb_reparam.training
    twin = pickle.loads(pickle.dumps(copy.deepcopy(layer)))
    assert_same_bits(twin.state_dict(), layer.state_dict())
    deploy = ReparamLargeKernelConv(**LAYERS[0], deploy=True)
    deploy.load_state_dict(layer.state_dict())
    x = torch.randn(1, 4, 9, 9)
    with torch.no_grad():  # where gradients are wanted, another way may be the fastest
        assert torch.equal(deploy(x), layer(x))


def test_half_precision_is_folded_in_float32_and_cast_once():
    layer = build(LAYERS[0], torch.bfloat16)
    exact = copy.deepcopy(layer).double()
    exact.reparameterize()
    weight, bias = layer.merged_filters()['lkb_reparam']
    assert weight.dtype == bias.dtype == torch.float32
    torch.testing.assert_close(weight.double(), exact.lkb_reparam.weight, rtol=1e-5, atol=1e-6)
    layer.reparameterize()
    assert torch.equal(layer.lkb_reparam.weight, weight.bfloat16())
    assert torch.equal(layer.lkb_reparam.bias, bias.bfloat16())


@pytest.mark.parametrize(('options', 'words'), [
    (dict(kernel_size=8), 'kernel_size must be a positive odd integer, got 8'),
    (dict(kernel_size=7, small_kernel=4), 'small_kernel must be a positive odd integer, got 4'),
    (dict(kernel_size=7, small_kernel=9), 'small_kernel must be at most the large kernel_size, 7, got 9'),
    (dict(kernel_size=7, activation='gelu'), "activation must be None or 'relu', got 'gelu'"),
    (dict(kernel_size=7, norm=functools.partial(nn.GroupNorm, 2)), 'norm must make a BatchNorm.*got GroupNorm'),
    (dict(kernel_size=7, norm=functools.partial(nn.BatchNorm2d, track_running_stats=False)), 'norm must make a Batch'),
])
def test_bad_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        ReparamLargeKernelConv(4, 4, **options)


# Branches as the networks have them: dilated ones into one filter, strips across each other into two.
PARTS = {
    'dilated': ([Branch('large', 'bn', (13, 13), 'large'), Branch('d1', 'bn1', (7, 7), 'large', 2),
                 Branch('d2', 'bn2', (3, 3), 'large', 5)], ['large.weight', 'large.bias']),
    'strips': ([Branch('a.conv', 'a.bn', (15, 5), 'a.conv'), Branch('b.conv', 'b.bn', (5, 15), 'b.conv'),
                Branch('small.conv', 'small.bn', (5, 5), 'a.conv')],
               ['a.conv.weight', 'a.conv.bias', 'b.conv.weight', 'b.conv.bias']),
    'one': ([Branch('conv', 'bn', (3, 3), 'merged')], ['merged.weight', 'merged.bias']),
}


@pytest.mark.parametrize('activation', [None, 'relu'])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('parts', PARTS)
def test_branches_of_any_shape_merge_into_what_they_say(parts, stride, activation):
    branches, names = PARTS[parts]
    layer = randomize(MergeableConv(4, 4, branches, stride, groups=4, activation=activation)).double().eval()
    x = torch.randn(2, 4, 21, 18, dtype=torch.float64)
    expected, filters = layer(x), layer.merged_filters()
    sizes = {path: tuple(weight.shape[2:]) for path, (weight, _) in filters.items()}
    assert sizes == {path: layer.largest(path).kernel_size for path in layer.merges}
    layer.reparameterize()
    merged = copied_state(layer)
    layer.reparameterize()
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    assert list(merged) == names and layer.is_merged
    assert_same_bits(layer.state_dict(), merged)
    deploy = MergeableConv(4, 4, branches, stride, groups=4, activation=activation, deploy=True).double()
    deploy.load_state_dict(merged)
    with torch.no_grad():
        assert torch.equal(deploy(x), layer(x))


def test_a_branch_larger_than_the_filter_it_merges_into_is_refused():
    branches = [Branch('a', 'bn_a', (5, 9), 'a'), Branch('b', 'bn_b', (9, 3), 'a')]
    with pytest.raises(InputError, match=r"into 'a', one of dilation 1 must be as large .* got \[\(5, 9\), \(9, 3\)"):
        MergeableConv(4, 4, branches, groups=4)
