"""Which of PyTorch's kernels a rival of the operator's benchmark runs on."""

import pytest
import torch

from mmreplk.benchmarks import operator as op_benchmark


def test_pytorchs_two_kinds_of_kernels_are_rivals_on_a_gpu():
    assert op_benchmark.rivals_on('cpu') == op_benchmark.RIVALS
    on_gpu = op_benchmark.rivals_on('cuda')
    assert 'torch native' in on_gpu and set(op_benchmark.RIVALS) < set(on_gpu)
    assert ('torch cudnn' in on_gpu) == hasattr(torch.backends.cudnn, 'depthwise_kernel')


@pytest.mark.parametrize('rival, enabled, kernel', [('torch', True, 'auto'), ('torch native', False, 'auto'),
                                                    ('torch cudnn', True, 'cudnn'), ('mmreplk', True, 'auto')])
def test_a_rival_runs_on_its_own_kernels_forward_and_backward(rival, enabled, kernel):
    cudnn = torch.backends.cudnn
    if kernel != 'auto' and not hasattr(cudnn, 'depthwise_kernel'):
        pytest.skip('needs PyTorch 2.13, the first that can be asked for cuDNN')
    seen, before = [], (cudnn.enabled, cudnn.allow_tf32, cudnn.benchmark)

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight):
            seen.append((cudnn.enabled, getattr(cudnn, 'depthwise_kernel', 'auto')))
            return x * weight.sum()

        @staticmethod
        def backward(ctx, grad):
            seen.append((cudnn.enabled, getattr(cudnn, 'depthwise_kernel', 'auto')))
            return grad, torch.zeros(2, 1, 3, 3)

    operands = torch.randn(1, 2, 4, 4), torch.randn(2, 1, 3, 3), torch.randn(1, 2, 4, 4)
    for what in op_benchmark.PASSES:
        op_benchmark._work(what, rival, Watched.apply, operands, 2)(1)
    assert set(seen) == {(enabled, kernel)} and len(seen) >= 8
    assert (cudnn.enabled, cudnn.allow_tf32, cudnn.benchmark) == before
