import functools

import numpy as np
import pytest
import torch
from torch import nn

from mmreplk import ReparamLargeKernelConv, RepLKNet
from tests.conftest import assert_same_bits, copied_state, randomize

TINY = dict(large_kernel_sizes=[13, 7, 5, 3], layers=[1, 1, 2, 1], channels=[8, 12, 16, 20], small_kernel=3)


def tiny(**options) -> RepLKNet:
    return randomize(RepLKNet(**dict(dict(arch=TINY), **options)))


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def test_merged_state_dict_has_the_official_names():
    model, deploy = tiny(), tiny(deploy=True)
    names = list(model.state_dict())
    model.reparameterize()
    merged = list(model.state_dict())
    assert sorted(merged) == sorted(deploy.state_dict())
    assert 'stages.0.blocks.0.large_kernel.lkb_reparam.bias' in merged
    assert [n for n in names if '.large_kernel.' not in n] == [n for n in merged if '.large_kernel.' not in n]
    deploy.load_state_dict(model.state_dict())
    model.reparameterize()
    images = torch.randn(1, 3, 40, 64)
    for a, b in zip(model.eval()(images), deploy.eval()(images), strict=True):
        assert torch.equal(a, b)


# The published classifiers, less their last norm and head (1000 classes), plus XL's feature norms.
@pytest.mark.parametrize(('name', 'parameters'), [
    ('31B', 79864168 - 2 * 1024 - 1025 * 1000),
    ('31L', 172671016 - 2 * 1536 - 1537 * 1000),
    ('XL', 335435752 - 2 * 2048 - 2049 * 1000 + 2 * (256 + 512 + 1024 + 2048)),
])
def test_published_architectures(name, parameters):
    with torch.device('meta'):
        model = RepLKNet(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    kernels = [m.lkb_origin.conv.kernel_size[0] for m in model.modules() if isinstance(m, ReparamLargeKernelConv)]
    sizes = (27, 27, 27, 13) if name == 'XL' else (31, 29, 27, 13)
    assert kernels == [k for k, count in zip(sizes, (2, 2, 18, 2), strict=True) for _ in range(count)]
    assert hasattr(model.stages[0].blocks[0].large_kernel, 'small_conv') == (name != 'XL')
    assert isinstance(model.stages[0].norm, nn.BatchNorm2d) == (name == 'XL')


def test_outputs_and_their_sizes():
    outs = tiny(in_channels=5, out_indices=[1, 3])(torch.randn(2, 5, 65, 96))
    assert [tuple(out.shape) for out in outs] == [(2, 12, 9, 12), (2, 20, 3, 3)]


def test_drop_path_rises_linearly_over_all_blocks():
    model = tiny(drop_path_rate=0.4)
    rates = [block.drop_path.rate for stage in model.stages for block in stage.blocks]
    np.testing.assert_allclose(rates, np.repeat(np.linspace(0, 0.4, 5), 2), rtol=1e-6)


def test_checkpointing_changes_memory_only():
    plain, saving = tiny(drop_path_rate=0.5), tiny(drop_path_rate=0.5, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(4, 3, 64, 64)
    for model in (plain, saving):
        torch.manual_seed(1)
        sum(out.square().mean() for out in model.train()(images)).backward()
    assert_same_bits(saving.state_dict(), plain.state_dict())
    for (name, a), b in zip(saving.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_checkpointing_recomputes_in_training_only():
    model = tiny(with_cp=True)
    calls = []
    model.stages[0].blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    images = torch.randn(2, 3, 64, 64)
    model.train()(images)[-1].sum().backward()
    assert len(calls) == 2
    model.eval()(images)[-1].sum().backward()
    assert len(calls) == 3


@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 4])
def test_frozen_stages(frozen_stages):
    model = tiny(frozen_stages=frozen_stages).train()
    before = copied_state(model)
    sum(out.sum() for out in model(torch.randn(2, 3, 64, 64)) if out.requires_grad) if frozen_stages < 4 else None
    moved = {name.split('.running')[0] for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    frozen = ['stem.'] * (frozen_stages >= 0) + [f'stages.{i}.' for i in range(frozen_stages)] \
        + [f'transitions.{i}.' for i in range(frozen_stages - 1)]
    assert not [name for name in moved if name.startswith(tuple(frozen))]
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(tuple(frozen)), name
    assert all(not m.training for m in norms(model.stem)) == (frozen_stages >= 0)


def test_norm_eval():
    model = tiny(norm_eval=True).train()
    before = copied_state(model)
    model(torch.randn(2, 3, 64, 64))
    assert_same_bits(model.state_dict(), before)
    assert model.training and not any(m.training for m in norms(model))


def test_norm_reaches_every_norm():
    model = tiny(norm=functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.2))
    assert {(m.eps, m.momentum) for m in norms(model)} == {(1e-3, 0.2)}


@pytest.mark.parametrize(('options', 'words'), [
    (dict(arch='31X'), r"arch must be one of \['31B', '31L', 'XL'\] or a dict, got '31X'"),
    (dict(arch=dict(TINY, depth=3)), r"arch has unknown keys \['depth'\]"),
    (dict(arch=dict(layers=[1])), r"lacks \['channels', 'large_kernel_sizes'\]"),
    (dict(arch=dict(TINY, channels=[8, 12, 16])), r'channels must have one entry for each of the 4 stages'),
    (dict(arch=dict(TINY, large_kernel_sizes=[13, 7, 6, 3])), r'large_kernel_sizes must be odd, got \(13, 7, 6, 3\)'),
    (dict(arch=dict(TINY, small_kernel=5)), 'small_kernel must be None or odd and at most .* got 5'),
    (dict(arch=dict(TINY, small_kernel=2)), 'small_kernel must be None or odd .* got 2'),
    (dict(arch=dict(TINY, layers=[1, 0, 1, 1])), r'layers must be a list of positive integers.*got \[1, 0, 1, 1\]'),
    (dict(arch=dict(TINY, dw_ratio=0)), 'dw_ratio must be a positive number .* got 0'),
    (dict(out_indices=(0, 4)), r'out_indices must be ascending stages from 0 to 3, got \(0, 4\)'),
    (dict(out_indices=()), r'out_indices must be ascending stages from 0 to 3, got \(\)'),
    (dict(out_indices=2), r'out_indices must be ascending stages from 0 to 3, got 2'),
    (dict(drop_path_rate=1.0), r'drop_path_rate must be in \[0, 1\), got 1.0'),
    (dict(frozen_stages=5), 'frozen_stages must be an integer from -1 to 4, got 5'),
    (dict(in_channels=0), 'in_channels must be a positive integer, got 0'),
    (dict(norm=functools.partial(nn.GroupNorm, 2)), 'norm must make a BatchNorm'),
], ids=str)
def test_bad_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        RepLKNet(**dict(dict(arch=TINY), **options))


def test_image_smaller_than_the_stride():
    with pytest.raises(ValueError, match='images must be at least 32 pixels high and wide.*got 64x31'):
        tiny()(torch.randn(1, 3, 64, 31))
