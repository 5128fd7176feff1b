import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from mmreplk.ops import cpu, depthwise_conv2d


def counted(function):
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


@pytest.mark.parametrize('device', ['cpu', 'meta'])
def test_every_pass_counts_what_the_convolution_does(device):
    x, weight = torch.randn(2, 4, 10, 11, device=device), torch.randn(4, 1, 31, 5, device=device)
    expected = 2 * (2 * 4 * 10 * 11) * (31 * 5)
    assert counted(lambda: F.conv2d(x, weight, padding='same', groups=4)) == expected
    for needs in ((False, False), (True, False), (False, True), (True, True)):
        leaves = [t.detach().requires_grad_(needed) for t, needed in zip((x, weight), needs, strict=True)]

        def run(leaves=leaves):
            out = torch.ops.mmreplk.depthwise_conv2d(*leaves, None, True, [1, 1], [15, 2], [1, 1], False)
            if any(t.requires_grad for t in leaves):
                out.sum().backward()

        assert counted(run) == expected * (1 + sum(needs))


@pytest.mark.skipif(not cpu.IS_SUPPORTED, reason='needs AVX2: elsewhere PyTorch computes')
def test_the_backend_does_not_matter():
    x, weight = torch.randn(2, 4, 10, 11), torch.randn(4, 1, 31, 31)
    with torch.no_grad():
        counts = {backend: counted(lambda backend=backend: depthwise_conv2d(x, weight, backend=backend))
                  for backend in ('cpu', 'torch')}
    assert counts['cpu'] == counts['torch'] == 2 * x.numel() * 31**2
