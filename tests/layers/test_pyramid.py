import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmreplk.layers import pyramid
from mmreplk.layers.pyramid import PackedPyramidConv2d
from mmreplk.ops.cpu.packed import why_not

pytestmark = pytest.mark.skipif(why_not(torch.float32) is not None, reason='nothing is packed on this CPU')


@torch.no_grad()
@pytest.mark.parametrize('dtype', [dtype for dtype in (torch.float32, torch.bfloat16) if why_not(dtype) is None])
@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('kernel_size', [3, (5, 1), 1])
@pytest.mark.parametrize('columns', [4, 7, 64])
def test_maps_are_resized_concatenated_and_convolved(dtype, align_corners, kernel_size, columns, monkeypatch):
    monkeypatch.setattr(pyramid, 'COLUMNS', columns)
    conv = nn.Conv2d(3 + 4 + 5 + 6, 7, kernel_size, padding='same')
    sizes = (17, 23), (9, 12), (1, 6), (20, 30)
    maps = [torch.randn(2, c, *size) for c, size in zip((3, 4, 5, 6), sizes, strict=True)]
    resized = [maps[0], *(F.interpolate(m, sizes[0], mode='bilinear', align_corners=align_corners) for m in maps[1:])]
    for is_rectified in (False, True):
        expected = conv(torch.cat(resized, 1))
        own = nn.Conv2d(18, 7, conv.kernel_size, padding=tuple(k // 2 for k in conv.kernel_size))
        own.load_state_dict(conv.state_dict())
        form = PackedPyramidConv2d(own.to(dtype), [3, 4, 5, 6], align_corners, is_rectified)
        out = form(*(m.to(dtype) for m in maps))
        assert out.is_contiguous(memory_format=torch.channels_last)
        expected = expected.relu() if is_rectified else expected
        error = (out.float() - expected).abs().max() / expected.abs().max()
        assert error <= {torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]


@pytest.mark.parametrize('options', [dict(stride=2), dict(dilation=2), dict(groups=2), dict(padding=0),
                                     dict(padding_mode='reflect')], ids=str)
def test_other_convolutions_are_not_taken(options):
    assert pyramid.takes(nn.Conv2d(4, 4, 3, padding=1))
    assert not pyramid.takes(nn.Conv2d(4, 4, 3, **{'padding': 1, **options}))
