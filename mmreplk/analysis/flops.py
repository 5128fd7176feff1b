"""Parameters and multiply-adds of segmentors and detectors."""

from collections import Counter
from collections.abc import Callable

import torch
from mmengine.analysis import FlopAnalyzer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import InputError

# What MMDetection 2.x, and with it the published figures, counted for heads that run on proposals.
BOX_PROPOSALS, MASK_PROPOSALS = 1000, 100


def count_flops(model: nn.Module, shape: tuple[int, int]) -> dict:
    """Counts parameters and multiply-adds of one image, by MMEngine's analysis.

    Counted are backbone, neck and every head that predicts: of a segmentor, all but the auxiliary heads, up to the
    logits before they are resized to the image; of a detector, the dense heads on the whole image, and each stage's box
    head on 1000 proposals and mask head on 100, as MMDetection 2.x counted, whatever the image shows. RoIAlign, NMS
    and activations count nothing.

    Args:
        model: A segmentor of MMSegmentation or a detector of MMDetection, on any device; on ``'meta'``, nothing is
            computed. It is put into evaluation mode.
        shape: Height and width of the image in pixels.

    Returns:
        ``params`` and ``flops`` (multiply-adds), the same of each part (``parts``), and the multiply-adds by kind of
        operation (``operations``). An auxiliary head is in none of them.

    Raises:
        InputError: If the shape is not two positive integers.

    Source: MMDetection 2.x, ``CascadeRoIHead.forward_dummy`` and ``tools/analysis_tools/get_flops.py``.
    """
    if len(shape) != 2 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise InputError(f'shape must be height and width in pixels, got {shape!r}')
    counted = _Counted(model).eval()
    device = next(model.parameters()).device
    analyzer = FlopAnalyzer(counted, (torch.zeros(1, 3, *shape, device=device),))
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings('none')
    with torch.no_grad(), _TracedConvolutions():
        by_module = analyzer.by_module()
    parts = {}
    for name, part in counted.model.named_children():
        params = sum(p.numel() for p in part.parameters())
        if params and not name.startswith('auxiliary_head'):
            parts[name] = dict(params=params, flops=int(by_module[f'model.{name}']))
    operations = Counter({name: int(count) for name, count in analyzer.by_operator().items()})
    return dict(
        shape=list(shape),
        params=sum(part['params'] for part in parts.values()),
        flops=int(analyzer.total()),
        parts=parts,
        operations=dict(operations.most_common()))


class _Counted(nn.Module):
    """Runs all that is counted, with shapes that do not depend on what the image shows."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> list:
        model = self.model
        roi_head = getattr(model, 'roi_head', None)
        if roi_head is None:
            return model(image, mode='tensor')
        features = model.extract_feat(image)
        outs = [model.rpn_head(features)]
        boxes = (BOX_PROPOSALS, getattr(roi_head, 'bbox_roi_extractor', None), roi_head.bbox_head)
        masks = (MASK_PROPOSALS, getattr(roi_head, 'mask_roi_extractor', None), getattr(roi_head, 'mask_head', None))
        for count, extractors, heads in (boxes, masks):
            for extractor, head in zip(_modules(extractors), _modules(heads), strict=True):
                layer = extractor.roi_layers[0]
                outs.append(head(features[0].new_zeros(count, extractor.out_channels, *layer.output_size)))
        return outs


class _TracedConvolutions(TorchDispatchMode):
    """Lets convolutions of the meta device be traced.

    The tracer records the inner form, ``_convolution``, which that device never calls. Inside it tracing pauses, so
    that the device's kernel, which is Python and fails on traced sizes, can tell the shape.
    """

    def __torch_dispatch__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        aten = torch.ops.aten
        if func is aten.convolution.default and args[0].is_meta:
            with self:
                return aten._convolution.default(*args, False, False, False, False)
        if func is aten._convolution.default:
            func, args = aten.convolution.default, args[:9]
        return func(*args, **(kwargs or {}))


def _modules(stages: nn.Module | None) -> list[nn.Module]:
    """Returns the stages of a cascade, or the one module, or none."""
    if isinstance(stages, nn.ModuleList):
        return list(stages)
    return [] if stages is None else [stages]
