"""Data samples as pipelines of MMSegmentation and MMDetection make them, without an image."""

from typing import Any

from mmengine.registry import TRANSFORMS

_PACKERS = dict(mmseg='mmseg.PackSegInputs', mmdet='mmdet.PackDetInputs')


def packed_sample(scope: str, size: tuple[int, int], **annotations: Any) -> Any:
    """Returns the data sample of an image.

    Args:
        scope: ``'mmseg'`` or ``'mmdet'``, which must have been imported.
        size: Height and width of the image in pixels.
        **annotations: Its annotations, by the names that transforms use, such as ``gt_seg_map``.
    """
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=(1., 1.), img_id=0)
    pack = TRANSFORMS.build(dict(type=_PACKERS[scope], meta_keys=tuple(meta)))
    return pack(dict(meta, **annotations))['data_samples']
