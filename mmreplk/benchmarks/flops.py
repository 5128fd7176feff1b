"""Parameters and multiply-adds of segmentors and detectors."""

import copy
import inspect
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ..errors import InputError

# What MMDetection 2.x, and with it the published figures, counted for heads that run on proposals.
BOX_PROPOSALS, MASK_PROPOSALS = 1000, 100
# What counts as 0 and leaves shapes as they are.
SHAPE_KEEPING = {F.batch_norm, F.layer_norm, F.group_norm, F.relu, F.gelu}


def count_flops(model: nn.Module, shape: tuple[int, int]) -> dict:
    """Counts parameters and multiply-adds of one image, by PyTorch's counter: convolutions and matrix products.

    The count has backbone, neck and every head that predicts. Of a segmentor, these are all but the auxiliary heads. Of
    a detector, they are the dense heads on the whole image, and each stage's box head on 1000 proposals and mask head
    on 100, as MMDetection 2.x counted, whatever the image shows. Of a detector or segmentor with a transformer, all of
    it is counted. Norms, activations, interpolation, RoIAlign, NMS and the sampling of deformable attention count as 0.

    Args:
        model: A segmentor of MMSegmentation or a detector of MMDetection, on any device. On ``'meta'``, nothing is
            computed except transformers: they look at numbers, and so run on the CPU, with weights of 0. The model is
            put into evaluation mode.
        shape: Height and width of the image in pixels.

    Returns:
        ``params`` and ``flops`` (multiply-adds), and the same of each part (``parts``), without auxiliary heads.

    Raises:
        InputError: If the shape is not two positive integers.

    Source: MMDetection 2.x, ``CascadeRoIHead.forward_dummy`` and ``tools/analysis_tools/get_flops.py``.
    """
    if len(shape) != 2 or not all(isinstance(size, int) and size > 0 for size in shape):
        raise InputError(f'shape must be height and width in pixels, got {shape!r}')
    model.eval()
    image = torch.zeros(1, image_channels(model), *shape, device=next(model.parameters()).device)
    with torch.no_grad(), _Shortcut(), FlopCounterMode(display=False) as counter, _Shares(counter) as shares:
        shares.watch(model)
        if getattr(model, 'roi_head', None) is not None:
            _run_two_stages(model, image)
        elif hasattr(model, 'forward_transformer') or _takes_samples(getattr(model, 'decode_head', None)):
            _run_transformer(model, image, shares)
        else:
            model(image, mode='tensor')
    parts = {}
    for part, module in model.named_children():
        params = sum(p.numel() for p in module.parameters())
        if params and not part.startswith('auxiliary_head'):
            parts[part] = dict(params=params, flops=shares.of(part))
    own = sum(p.numel() for p in model.parameters(recurse=False))
    return dict(
        shape=list(shape),
        params=sum(part['params'] for part in parts.values()) + own,
        flops=counter.get_total_flops() // 2,
        parts=parts)


def image_channels(model: nn.Module) -> int:
    """Returns how many channels a model's images have: as its backbone's first convolution takes, or else three."""
    modules = getattr(model, 'backbone', model).modules()
    return next((module.in_channels for module in modules if isinstance(module, nn.Conv2d)), 3)


class _Shortcut(TorchFunctionMode):
    """Spares the meta device what only keeps shapes: it works that out in Python, which takes longer than all else."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if args and func in SHAPE_KEEPING and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


class _Shares(ExitStack):
    """Attributes what ``counter`` counts to the innermost module that is running."""

    def __init__(self, counter: FlopCounterMode):
        super().__init__()
        self._counter, self._counted = counter, 0
        self._running: list[str] = []
        self._by_module: Counter[str] = Counter()

    def watch(self, model: nn.Module) -> None:
        """Attributes by the names of the modules of ``model`` from now on, until the exit."""
        for name, module in model.named_modules():
            before = module.register_forward_pre_hook(lambda *_, name=name: self._enter(name))
            after = module.register_forward_hook(lambda *_: self._leave())
            self.callback(before.remove)
            self.callback(after.remove)

    def of(self, part: str) -> int:
        """Returns the multiply-adds of a module and all below it."""
        return sum(flops for name, flops in self._by_module.items() if f'{name}.'.startswith(f'{part}.')) // 2

    def _enter(self, name: str) -> None:
        self._attribute()
        self._running.append(name)

    def _leave(self) -> None:
        self._attribute()
        self._running.pop()

    def _attribute(self) -> None:
        total = self._counter.get_total_flops()
        if self._running:
            self._by_module[self._running[-1]] += total - self._counted
        self._counted = total


def _run_two_stages(model: nn.Module, image: Tensor) -> None:
    """Runs a detector with shapes that do not depend on what the image shows."""
    roi_head = model.roi_head
    features = model.extract_feat(image)
    model.rpn_head(features)
    boxes = (BOX_PROPOSALS, getattr(roi_head, 'bbox_roi_extractor', None), roi_head.bbox_head)
    masks = (MASK_PROPOSALS, getattr(roi_head, 'mask_roi_extractor', None), getattr(roi_head, 'mask_head', None))
    for count, extractors, heads in (boxes, masks):
        for extractor, head in zip(_modules(extractors), _modules(heads), strict=True):
            layer = extractor.roi_layers[0]
            head(features[0].new_zeros(count, extractor.out_channels, *layer.output_size))


def _run_transformer(model: nn.Module, image: Tensor, shares: _Shares) -> None:
    """Runs backbone and neck, and after them the transformer of DETR and its kin, or Mask2Former's head."""
    features: Sequence[Tensor] = model.extract_feat(image)
    if image.is_meta:
        model = copy.deepcopy(model)
        model.backbone = model.neck = None
        model.to_empty(device='cpu')
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
        shares.watch(model)
        features = [torch.zeros(feature.shape, dtype=feature.dtype) for feature in features]
    size = tuple(image.shape[-2:])
    sizes = dict(img_shape=size, batch_input_shape=size)
    samples = [SimpleNamespace(metainfo=sizes, **sizes)]
    if hasattr(model, 'forward_transformer'):
        model.bbox_head.forward(**model.forward_transformer(features, samples))
    else:
        model.decode_head(features, samples)


def _takes_samples(head: nn.Module | None) -> bool:
    """Says whether a head of MMSegmentation takes samples besides features, as Mask2Former's, of MMDetection, does."""
    return head is not None and 'batch_data_samples' in inspect.signature(head.forward).parameters


def _modules(stages: nn.Module | None) -> list[nn.Module]:
    """Returns the stages of a cascade, or the one module, or none."""
    if isinstance(stages, nn.ModuleList):
        return list(stages)
    return [] if stages is None else [stages]
