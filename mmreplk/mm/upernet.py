"""Folding and packing of MMSegmentation's ``UPerHead``, which takes more than half of a segmentor's time."""

import functools
from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from ..layers.packed import can_pack, pack_convolution
from ..layers.pyramid import PackedPyramidConv2d, takes
from ..merging import FOLDERS, Folder
from . import conv_module


def _modules(head: nn.Module) -> Iterator[ConvModule]:
    return (module for module in head.modules() if isinstance(module, ConvModule))


def _applies(head: nn.Module) -> bool:
    """Whether all its convolutions can be folded and packed."""
    pyramids = head.bottleneck, head.fpn_bottleneck
    return (all(type(m) is ConvModule and conv_module.applies(m) and conv_module.can_pack_module(m)
                for m in _modules(head)) and
            all(takes(m.conv) and type(m.activate) is nn.ReLU for m in pyramids) and can_pack(head.conv_seg))


def _fold(head: nn.Module) -> None:
    for module in _modules(head):
        conv_module.fold(module)


def _pack(head: nn.Module) -> nn.Module:
    """Packs the convolutions of a folded head; those of maps that are resized to one size no longer need that."""
    for convs in (head.lateral_convs, head.fpn_convs, *head.psp_modules):
        for i, module in enumerate(convs):
            if isinstance(module, ConvModule):
                convs[i] = conv_module.pack(module)
    top = [head.in_channels[-1]] + [head.channels] * len(head.psp_modules)
    for name, channels in (('bottleneck', top), ('fpn_bottleneck', [head.channels] * len(head.in_channels))):
        conv = getattr(head, name).conv
        setattr(head, name, PackedPyramidConv2d(conv, channels, head.align_corners, is_rectified=True))
    head.conv_seg = pack_convolution(head.conv_seg)
    head.forward = functools.partial(_forward, head)
    return head


def _forward(head: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Returns what ``UPerHead.forward`` does."""
    inputs = head._transform_inputs(inputs)
    maps = [conv(x) for conv, x in zip(head.lateral_convs, inputs[:-1], strict=True)]
    maps.append(head.bottleneck(inputs[-1], *(pool(inputs[-1]) for pool in head.psp_modules)))
    for upper, lower in zip(maps[::-1], maps[-2::-1], strict=False):
        lower += F.interpolate(upper, lower.shape[2:], mode='bilinear', align_corners=head.align_corners)
    features = [conv(x) for conv, x in zip(head.fpn_convs, maps[:-1], strict=True)]
    return head.conv_seg(head.fpn_bottleneck(*features, maps[-1]))  # dropout does nothing in an evaluation


FOLDERS['mmseg.models.decode_heads.uper_head.UPerHead'] = Folder(_applies, _fold, _pack)
