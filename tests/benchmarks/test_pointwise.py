"""The ways of a 1x1 convolution and of a norm, on a CPU."""

import torch

from mmreplk.benchmarks import pointwise


def test_ways_that_agree_are_timed_and_others_told(monkeypatch):
    monkeypatch.setattr(torch, 'compile', lambda function: lambda *args: function(*args) * 1.5)
    monkeypatch.setattr(pointwise, '_matmul', lambda x, weight: x.view(7))
    rows = {row['way']: row for row in pointwise.benchmark_pointwise(2, 8, 6, torch.float32, 'cpu', rounds=3)}
    assert "'[7]' is invalid" in rows['NCHW matrix product']['raised']
    assert rows['compiled into one']['difference'] > .1 and 'median_ms' not in rows['compiled into one']
    for way in 'NCHW convolution', 'channels-last convolution', 'BatchNorm, GELU':
        assert rows[way]['median_ms'] > 0 and len(rows[way]['raw_ms']) == 3 and rows[way]['difference'] < 1e-5
    row = rows['NCHW convolution']
    assert row['tflops'] == 2 * 2 * 6 * 6 * 8 * 32 / row['median_ms'] / 1e9


def test_a_matrix_product_is_the_convolution():
    x, weight = torch.randn(2, 3, 4, 5), torch.randn(7, 3, 1, 1)
    torch.testing.assert_close(pointwise._matmul(x, weight), torch.nn.functional.conv2d(x, weight))
