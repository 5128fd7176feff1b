import pytest
import torch

from mmreplk import InputError, ReparamLargeKernelConv, reparameterized
from mmreplk.mm import LargeKernelMobileNetV2
from tests.conftest import assert_same_bits, copied_state, randomize

IMAGES = (1, 3, 65, 96)


def narrow(**options) -> LargeKernelMobileNetV2:
    return randomize(LargeKernelMobileNetV2(**dict(dict(widen_factor=0.25), **options))).eval()


@pytest.mark.parametrize('widen_factor', [0.25, 0.35, 1.0])
def test_with_small_kernels_it_is_the_framework_s(widen_factor):
    backbones = pytest.importorskip('mmseg.models.backbones')
    theirs = randomize(backbones.MobileNetV2(widen_factor=widen_factor))
    theirs.eval()  # which does not return it
    ours = LargeKernelMobileNetV2(widen_factor=widen_factor).eval()
    names, values = list(ours.state_dict()), theirs.state_dict().values()
    ours.load_state_dict(dict(zip(names, values, strict=True)))
    images = torch.randn(IMAGES)
    with torch.no_grad():
        for actual, expected in zip(ours(images), theirs(images), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_features():
    outs = narrow(kernel_sizes=13, out_indices=(0, 1, 2, 4, 6))(torch.randn(IMAGES))
    assert [tuple(out.shape) for out in outs] == [(1, 8, 33, 48), (1, 8, 17, 24), (1, 8, 9, 12), (1, 24, 5, 6),
                                                  (1, 80, 3, 3)]


def test_each_stage_has_its_kernels():
    model = narrow(kernel_sizes=[3, 5, 7, 9, 11, 13, 3], small_kernel=5)
    for stage, size in zip(model.stages, [3, 5, 7, 9, 11, 13, 3], strict=True):
        for layer in (m for m in stage.modules() if isinstance(m, ReparamLargeKernelConv)):
            assert layer.lkb_origin.conv.kernel_size == (size, size)
            assert hasattr(layer, 'small_conv') == (size > 5)


def test_shortcuts():
    """Ten blocks keep their shape; without shortcuts, what they add is missing and nothing else differs."""
    with_shortcuts, without = narrow(widen_factor=0.5), narrow(widen_factor=0.5, shortcuts=False)
    without.load_state_dict(with_shortcuts.state_dict())
    blocks = [(a, b) for stages in zip(with_shortcuts.stages, without.stages, strict=True)
              for a, b in zip(*stages, strict=True)]
    assert sum(a.shortcut for a, _ in blocks) == 10 and not any(b.shortcut for _, b in blocks)
    for a, b in blocks:
        x = torch.randn(1, next(a.parameters()).shape[1 if a is not blocks[0][0] else 0], 8, 8)
        torch.testing.assert_close(a(x), b(x) + x if a.shortcut else b(x))


def test_it_is_merged_for_an_evaluation():
    model = narrow(kernel_sizes=[3, 3, 3, 3, 3, 13, 13], small_kernel=3)
    before, images = copied_state(model), torch.randn(IMAGES)
    with torch.no_grad():
        expected = model(images)
        with reparameterized(model, check=True) as merged:
            actual = model(images)
    assert merged == (17, 34)
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-4 * float(e.abs().max()))
    assert_same_bits(copied_state(model), before)


def test_every_parameter_learns():
    model = narrow(kernel_sizes=13, small_kernel=3).train()
    sum(out.square().mean() for out in model(torch.randn(2, *IMAGES[1:]))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(('options', 'message'), [
    (dict(kernel_sizes=[3, 13]), r'kernel_sizes must be one integer or 7, one a stage, got \[3, 13\]'),
    (dict(kernel_sizes=4), 'kernel_size must be a positive odd integer, got 4'),
    (dict(small_kernel=2), 'small_kernel must be a positive odd integer, got 2'),
    (dict(out_indices=(1, 7)), r'out_indices must be ascending stages from 0 to 6, got \(1, 7\)'),
    (dict(widen_factor=0), 'widen_factor must be above 0, got 0'),
])
def test_what_cannot_be_built(options, message):
    with pytest.raises(InputError, match=message):
        narrow(**options)
