"""What the operator takes beside its operands, measured in a process that has done nothing before."""

import re
from pathlib import Path

import torch

from mmreplk.ops import cpu
from mmreplk.ops.cpu import fourier, onednn


def resident(field):
    return int(re.search(field + r':\s+(\d+) kB', Path('/proc/self/status').read_text())[1]) * 1024


def peak(function):
    Path('/proc/self/clear_refs').write_text('5')
    before = resident('VmRSS')
    function()
    return resident('VmHWM') - before


def assert_bounded(n, c, h, k, dtype):
    torch.set_num_threads(2)
    x, weight = torch.randn(n, c, h, h, dtype=dtype), torch.randn(c, 1, k, k, dtype=dtype)
    small = torch.randn(1, 32, 9, 9, dtype=dtype), weight[:1].expand(32, -1, -1, -1)
    p = ((1, 1), (k // 2, k // 2), (1, 1), False)
    cpu.grad_weight(small[0], cpu.forward(*small, None, *p), (k, k), *p)  # what the libraries allocate once
    in_float32 = 4 * (x.numel() + weight.numel())
    slack = 16 * 2**20  # of the allocator
    transforms = 32 * max(fourier.SCRATCH, max(n, 2) * fourier.transform_length(h, k, 2)**2)
    assert peak(lambda: cpu.forward(x, weight, None, *p)) <= 4 * in_float32 + transforms + slack
    assert peak(lambda: cpu.grad_input(x, weight, (h, h), *p)) <= 4 * in_float32 + transforms + slack
    block = 32 * (h + k - 1)**2
    copies = 8 * x.numel() * (dtype != torch.float32)  # of input and gradient, in float32
    bound = 16 * max(onednn.SCRATCH, block) + copies + transforms + slack
    assert peak(lambda: cpu.grad_weight(x, x, (k, k), *p)) <= bound
