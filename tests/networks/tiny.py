"""RepLKNets that are small, and whether two compute the same."""

import torch

from mmreplk.mm import RepLKNet
from tests.conftest import randomize

TINY = dict(large_kernel_sizes=[13, 7, 5, 3], layers=[1, 1, 2, 1], channels=[8, 12, 16, 20], small_kernel=3)
XL_LIKE = dict(
    large_kernel_sizes=[7, 7, 5, 3], layers=[1, 1, 2, 1], channels=[8, 12, 16, 20], dw_ratio=1.5,
    norm_intermediate_features=True)
PRETRAINED_XL_LIKE = dict(XL_LIKE, norm_intermediate_features=False)


def tiny(arch=TINY, **options) -> RepLKNet:
    return randomize(RepLKNet(arch, **options)).eval()


def assert_same_outputs(actual: RepLKNet, expected: RepLKNet) -> None:
    images = torch.randn(1, 3, 40, 64)
    with torch.no_grad():
        for a, b in zip(actual.eval()(images), expected.eval()(images), strict=True):
            assert torch.equal(a, b)
