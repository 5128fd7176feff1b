import pytest
import torch
from torch import nn

from mmreplk import InputError, SLaK
from tests.conftest import assert_same_bits, copied_state, randomize

TINY = dict(layers=[1, 1, 2, 1], channels=[8, 12, 16, 20], large_kernel_sizes=[13, 9, 7, 5])


@pytest.mark.parametrize(('name', 'parameters'), [('T', 49_706_582), ('S', 90_134_564), ('B', 156_621_118)])
def test_parameters_of_the_published_architectures(name, parameters):
    with torch.device('meta'):
        model = SLaK(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    sizes = [tuple(block.large_kernel.get_submodule(path).kernel_size) for block in (model.stages[0][0],
             model.stages[3][0]) for path in ('LoRA1.conv', 'LoRA2.conv', 'small_conv.conv')]
    assert sizes == [(51, 5), (5, 51), (5, 5), (13, 5), (5, 13), (5, 5)]


@pytest.mark.parametrize('arch', [
    TINY, dict(TINY, decomposed=False), dict(TINY, decomposed=False, small_kernel=None), dict(TINY, small_kernel=3)
], ids=str)
def test_merging_and_folding_are_exact(arch):
    model = randomize(SLaK(arch), scales=True).double().eval()
    x = torch.randn(2, 3, 45, 70, dtype=torch.float64)
    expected = model(x)
    assert [tuple(out.shape[2:]) for out in expected] == [(11, 17), (5, 8), (2, 4), (1, 2)]
    for fuse_bn, form in ((False, 'merged'), (True, 'folded')):
        model.reparameterize(fuse_bn)
        merged = copied_state(model)
        assert model.form_of(merged) == form
        for actual, wanted in zip(model(x), expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-10, atol=1e-10)
        model.reparameterize(fuse_bn)
        assert_same_bits(model.state_dict(), merged)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    paths = {name.split('large_kernel.')[1] for name in merged if 'large_kernel.' in name}
    strips = {f'LoRA{i}.conv.{part}' for i in (1, 2) for part in ('weight', 'bias')}
    assert paths == (strips if arch.get('decomposed', True) else {'lkb_reparam.weight', 'lkb_reparam.bias'})


def test_no_small_kernel_beside_strips_that_are_one_themselves():
    model = SLaK(dict(TINY, large_kernel_sizes=[13, 9, 7, 5], small_kernel=5))
    assert hasattr(model.stages[0][0].large_kernel, 'small_conv')
    assert not hasattr(model.stages[3][0].large_kernel, 'small_conv')


@pytest.mark.parametrize(('arch', 'words'), [
    ('X', r"arch must be one of \['T', 'S', 'B'\] or a dict, got 'X'"),
    (dict(TINY, large_kernel_sizes=[13, 9, 7, 3]), 'small_kernel must be at most the large kernel_size, 3, got 5'),
    (dict(TINY, large_kernel_sizes=[13, 8, 7, 5]), 'kernel_size must be a positive odd integer, got 8'),
    (dict(TINY, small_kernel=None), 'small_kernel must be a positive odd integer, the short side .* got None'),
    (dict(layers=[1], channels=[8]), r"arch has unknown keys \[\] and lacks \['large_kernel_sizes'\]"),
], ids=str)
def test_bad_architectures_are_named(arch, words):
    with pytest.raises(InputError, match=words):
        SLaK(arch)
