"""Shapes, operands and tolerances that the tests of the operator share."""

import torch

# Relative to the largest value of the reference, for a reduction of 1000 terms; grows with its square root.
TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}

# (N, C, H, W, KH, KW)
SHAPES = [
    (2, 3, 20, 17, 31, 31),
    (1, 5, 33, 40, 29, 29),
    (2, 4, 9, 9, 27, 27),
    (3, 2, 16, 16, 13, 13),
    (1, 1, 1, 1, 31, 31),
    (2, 7, 30, 11, 7, 7),
    (2, 3, 12, 12, 5, 5),
    (2, 3, 12, 12, 3, 3),
    (1, 4, 21, 22, 51, 5),
    (1, 4, 21, 22, 5, 51),
    (1, 2, 70, 3, 63, 1),
]


def make(shape, dtype=torch.float32):
    n, c, h, w, kh, kw = shape
    x, weight, bias = torch.randn(n, c, h, w), torch.randn(c, 1, kh, kw), torch.randn(c)
    return [t.to(dtype).requires_grad_() for t in (x, weight, bias)]


def assert_close(actual, expected, terms, scale=0):
    """``scale`` is the size of a usual value, where there may be only one, which is small by chance."""
    error = (actual.double() - expected.double()).abs().max() / max(scale, expected.abs().max())
    assert error <= TOLERANCE[actual.dtype] * max(1, terms / 1000)**.5, f'{error:.1e}'
