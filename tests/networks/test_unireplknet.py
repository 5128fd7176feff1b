import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmreplk import InputError, UniRepLKNet
from mmreplk.layers.blocks import GRN, LayerNorm2d
from mmreplk.networks.unireplknet import UniRepLKNetBlock
from tests.conftest import assert_same_bits, copied_state, randomize

TINY = dict(layers=[1, 2, 1, 1], channels=[8, 12, 16, 20], kernel_sizes=[[3], [13, 0], [5], [7]])
# As the official training form branches: extents and dilations, by kernel size.
DILATED = {
    17: [(5, 1), (9, 2), (3, 4), (3, 5), (3, 7)],
    15: [(5, 1), (7, 2), (3, 3), (3, 5), (3, 7)],
    13: [(5, 1), (7, 2), (3, 3), (3, 4), (3, 5)],
    11: [(5, 1), (5, 2), (3, 3), (3, 4), (3, 5)],
    9: [(5, 1), (5, 2), (3, 3), (3, 4)],
    7: [(5, 1), (3, 2), (3, 3)],
}


@pytest.mark.parametrize(('name', 'training', 'merged'), [
    ('A', 4_328_620, 4_116_860), ('F', 6_105_000, 5_850_888), ('P', 10_568_416, 10_229_600),
    ('N', 18_179_000, 17_678_680), ('T', 31_053_540, 30_398_100), ('S', 55_689_048, 54_878_328),
    ('B', 98_066_208, 96_985_248), ('L', 218_541_744, 216_920_304), ('XL', 386_645_568, 384_483_648),
])
def test_parameters_of_the_published_architectures(name, training, merged):
    with torch.device('meta'):
        model = UniRepLKNet(name)
    assert sum(p.numel() for p in model.parameters()) == training
    model.reparameterize(fuse_bn=True)
    assert sum(p.numel() for p in model.parameters()) == merged


def test_the_merged_form_has_the_official_names():
    with torch.device('meta'):
        model = UniRepLKNet('S')
    norms = {f'norm{i}.{part}' for i in range(4) for part in ('weight', 'bias')}
    stems = {name for name in model.state_dict() if name.startswith('downsample_layers.')}
    model.switch_to_deploy()
    expected = set()
    for stage, blocks in enumerate((3, 3, 27, 3)):
        for j in range(blocks):
            large = '.lk_origin' if stage and not (stage == 2 and j % 3) else ''
            expected |= {f'stages.{stage}.{j}.{name}' for name in (
                f'dwconv{large}.weight', f'dwconv{large}.bias', 'se.down.weight', 'se.down.bias', 'se.up.weight',
                'se.up.bias', 'pwconv1.1.weight', 'pwconv1.1.bias', 'act.1.gamma', 'pwconv2.0.weight',
                'pwconv2.0.bias')}
    assert set(model.state_dict()) == expected | norms | stems


@pytest.mark.parametrize('kernel_size', [0, 3, 5, *DILATED])
def test_a_block_computes_what_the_paper_says(kernel_size):
    block = randomize(UniRepLKNetBlock(8, kernel_size, 0., 1., nn.BatchNorm2d), scales=True).double().eval()
    x, state = torch.randn(2, 8, 9, 14, dtype=torch.float64), block.state_dict()

    def bn(y, name):
        return F.batch_norm(y, state[f'{name}.running_mean'], state[f'{name}.running_var'], state[f'{name}.weight'],
                            state[f'{name}.bias'])

    def linear(y, name):
        return y @ state[f'{name}.weight'].flatten(1).T + state.get(f'{name}.bias', 0)

    y = x
    if kernel_size in (3, 5):
        y = F.conv2d(x, state['dwconv.weight'], padding=kernel_size // 2, groups=8)
    elif kernel_size:
        y = bn(F.conv2d(x, state['dwconv.lk_origin.weight'], padding=kernel_size // 2, groups=8), 'dwconv.origin_bn')
        for k, r in DILATED[kernel_size]:
            weight = state[f'dwconv.dil_conv_k{k}_{r}.weight']
            y = y + bn(F.conv2d(x, weight, padding=r * (k - 1) // 2, dilation=r, groups=8), f'dwconv.dil_bn_k{k}_{r}')
    y = bn(y, 'norm') if kernel_size else y
    means = y.mean((2, 3))
    y = y * linear(linear(means, 'se.down').relu(), 'se.up').sigmoid()[:, :, None, None]
    y = F.gelu(linear(y.permute(0, 2, 3, 1), 'pwconv1.1'))
    norms = y.square().sum((1, 2), keepdim=True).sqrt()
    y = state['act.1.gamma'] * (norms / (norms.mean(-1, keepdim=True) + 1e-6)) * y + state['act.1.beta'] + y
    y = bn(linear(y, 'pwconv2.0').permute(0, 3, 1, 2), 'pwconv2.2') * state['gamma'][:, None, None]
    torch.testing.assert_close(block(x), x + y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('kernel_size', [0, 3, 5, *DILATED])
def test_folding_is_exact(kernel_size):
    arch = dict(layers=[1, 1], channels=[8, 12], kernel_sizes=[[kernel_size], [3]])
    model = randomize(UniRepLKNet(arch), scales=True).double().eval()
    x = torch.randn(2, 3, 40, 57, dtype=torch.float64)
    expected = model(x)
    for fuse_bn in (False, True):
        model.reparameterize(fuse_bn)
        for actual, wanted in zip(model(x), expected, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=1e-10, atol=1e-10)
        folded = copied_state(model)
        model.reparameterize(fuse_bn)
        assert_same_bits(model.state_dict(), folded)
        if kernel_size > 5 or fuse_bn:  # without branches the merged form is the training form
            assert model.form_of(folded) == ('folded' if fuse_bn else 'merged')
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_layer_norm_over_channels_keeps_the_memory_format(layout):
    norm = LayerNorm2d(6)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    x = torch.randn(2, 6, 5, 7).contiguous(memory_format=layout)
    out = norm(x)
    scaled = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    torch.testing.assert_close(out, scaled * norm.weight[:, None, None] + norm.bias[:, None, None])
    assert out.is_contiguous(memory_format=layout)


def test_the_norms_of_a_large_map_stay_in_the_range_of_half_precision():
    x = torch.full((1, 256, 256, 4), 300., dtype=torch.float16)
    x[..., 0] = 600.
    grn = GRN(4).half()
    nn.init.ones_(grn.gamma)
    ratio = torch.tensor([600., 300., 300., 300.]) / 375
    torch.testing.assert_close(grn(x)[0, 0, 0].float(), (ratio + 1) * x[0, 0, 0].float(), rtol=1e-3, atol=0)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@torch.no_grad()
def test_grn_computes_the_same_packed(dtype):
    grn, x = GRN(24), torch.randn(2, 9, 11, 24).to(dtype)
    for parameter in grn.parameters():
        parameter.normal_()
    grn.beta = None
    expected = grn(x)
    close = dict(rtol=2e-2, atol=2e-2) if dtype == torch.bfloat16 else dict(rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grn.packed()(x), expected, **close)


def test_the_start():
    model = UniRepLKNet(TINY)
    for name, parameter in model.named_parameters():
        if name.endswith('.gamma') and '.act.' not in name:
            assert torch.equal(parameter, torch.full_like(parameter, 1e-6))
        elif '.act.' in name:
            assert not parameter.any()
    weights = torch.cat([p.flatten() for n, p in model.named_parameters() if p.ndim > 1 and '.act.' not in n])
    assert weights.std().item() == pytest.approx(.02, rel=.05) and weights.abs().max() <= 2


@pytest.mark.parametrize(('arch', 'words'), [
    ('Z', r"arch must be one of \['A', 'F', 'P', 'N', 'T', 'S', 'B', 'L', 'XL'\] or a dict, got 'Z'"),
    (dict(TINY, kernel_sizes=[[3], [13], [5], [7]]), r'must have a list for each stage, with \(1, 2, 1, 1'),
    (dict(TINY, kernel_sizes=[[3], [13, 19], [5], [7]]), r'kernel_sizes must be among \(0, 3, 5, 7, .*got \[19\]'),
    (dict(layers=[1, 1], channels=[8, 12]), r'arch needs kernel_sizes, .*got layers \(1, 1\)'),
    (dict(TINY, kernel_sizes=13), 'kernel_sizes must have a list for each stage.*got 13'),
], ids=str)
def test_bad_architectures_are_named(arch, words):
    with pytest.raises(InputError, match=words):
        UniRepLKNet(arch)


def test_the_kernels_of_a_named_architecture_are_the_default():
    named = UniRepLKNet.Arch.NAMED['T']
    assert UniRepLKNet.Arch.parse(dict(layers=[3, 3, 18, 3], channels=[80, 160, 320, 640])) == named
    assert named.kernel_sizes[2] == (13, 3) * 9 and named.kernel_sizes[0] == (3, 3, 3)


@pytest.mark.parametrize('value', [0, -1, None, 'x'])
def test_a_bad_layer_scale_is_named(value):
    with pytest.raises(InputError, match=f'layer_scale must be a number above 0, got {value!r}'):
        UniRepLKNet(TINY, layer_scale=value)
