"""Parameters and multiply-adds of segmentors and detectors."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import InputError

# What MMDetection 2.x, and with it the published figures, counted for heads that run on proposals.
BOX_PROPOSALS, MASK_PROPOSALS = 1000, 100


def count_flops(model: nn.Module, shape: tuple[int, int]) -> dict:
    """Counts parameters and multiply-adds of one image, by PyTorch's counter: convolutions and matrix products.

    Counted are backbone, neck and every head that predicts: of a segmentor, all but the auxiliary heads; of a detector,
    the dense heads on the whole image, and each stage's box head on 1000 proposals and mask head on 100, as MMDetection
    2.x counted, whatever the image shows. Norms, activations, interpolation, RoIAlign and NMS count nothing.

    Args:
        model: A segmentor of MMSegmentation or a detector of MMDetection, on any device; on ``'meta'``, nothing is
            computed, which MMEngine's analysis, a tracer, cannot do. It is put into evaluation mode.
        shape: Height and width of the image in pixels.

    Returns:
        ``params`` and ``flops`` (multiply-adds), and the same of each part (``parts``). An auxiliary head is in none.

    Raises:
        InputError: If the shape is not two positive integers.

    Source: MMDetection 2.x, ``CascadeRoIHead.forward_dummy`` and ``tools/analysis_tools/get_flops.py``.
    """
    if len(shape) != 2 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise InputError(f'shape must be height and width in pixels, got {shape!r}')
    counted = _Counted(model).eval()
    image = torch.zeros(1, image_channels(model), *shape, device=next(model.parameters()).device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        counted(image)
    by_module = {name: sum(counts.values()) // 2 for name, counts in counter.get_flop_counts().items()}
    leaves = [name for name, module in counted.named_modules() if not any(module.children())]
    parts = {}
    for part, module in model.named_children():
        params = sum(p.numel() for p in module.parameters())
        if params and not part.startswith('auxiliary_head'):
            own = [f'_Counted.{name}' for name in leaves if name.startswith(f'model.{part}.')]
            parts[part] = dict(params=params, flops=sum(by_module.get(name, 0) for name in own))
    return dict(
        shape=list(shape),
        params=sum(part['params'] for part in parts.values()),
        flops=counter.get_total_flops() // 2,
        parts=parts)


def image_channels(model: nn.Module) -> int:
    """Returns how many channels the images of a model have: of the first convolution of its backbone, or else three."""
    modules = getattr(model, 'backbone', model).modules()
    return next((module.in_channels for module in modules if isinstance(module, nn.Conv2d)), 3)


class _Counted(nn.Module):
    """Runs all that is counted, with shapes that do not depend on what the image shows."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> None:
        model = self.model
        roi_head = getattr(model, 'roi_head', None)
        if roi_head is None:
            model(image, mode='tensor')
            return
        features = model.extract_feat(image)
        model.rpn_head(features)
        boxes = (BOX_PROPOSALS, getattr(roi_head, 'bbox_roi_extractor', None), roi_head.bbox_head)
        masks = (MASK_PROPOSALS, getattr(roi_head, 'mask_roi_extractor', None), getattr(roi_head, 'mask_head', None))
        for count, extractors, heads in (boxes, masks):
            for extractor, head in zip(_modules(extractors), _modules(heads), strict=True):
                layer = extractor.roi_layers[0]
                head(features[0].new_zeros(count, extractor.out_channels, *layer.output_size))


def _modules(stages: nn.Module | None) -> list[nn.Module]:
    """Returns the stages of a cascade, or the one module, or none."""
    if isinstance(stages, nn.ModuleList):
        return list(stages)
    return [] if stages is None else [stages]
