"""What is exported: a network from decoded pixels to logits, labels or features, merged and folded."""

import copy
import math

import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from torch import Tensor, nn

from ...errors import InputError
from ...merging import reparameterize
from .pooling import use_matrix_pools


class Preprocessing(nn.Module):
    """What MMSegmentation's and MMDetection's data preprocessors do to images of one size before a test.

    Args:
        cfg: The ``data_preprocessor`` of a model's config.

    Raises:
        InputError: If it pads to a fixed size, whatever the image.
    """

    def __init__(self, cfg: dict):
        super().__init__()
        test_cfg = cfg.get('test_cfg') or {}
        if test_cfg.get('size'):
            raise InputError(f'data_preprocessor.test_cfg pads every image to {test_cfg["size"]}, which a network for '
                             'any size cannot do; test_cfg=dict(size_divisor=...) can be exported')
        self.swaps_channels = bool(cfg.get('bgr_to_rgb') or cfg.get('rgb_to_bgr'))
        self.register_buffer('order', torch.tensor([2, 1, 0]))
        self.divisor = test_cfg.get('size_divisor') or cfg.get('pad_size_divisor') or 1
        self.pad_value = cfg.get('pad_value', cfg.get('pad_val', 0))
        self.is_normalizing = cfg.get('mean') is not None
        if self.is_normalizing:
            for name in ('mean', 'std'):
                self.register_buffer(name, torch.tensor(cfg[name], dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Normalizes and pads ``(N, 3, H, W)``, pixels from 0 to 255."""
        x = images.index_select(1, self.order) if self.swaps_channels else images
        if self.is_normalizing:
            x = (x - self.mean) / self.std
        if self.divisor == 1:
            return x
        height, width = x.shape[2:]
        return F.pad(x, (0, -width % self.divisor, 0, -height % self.divisor), value=self.pad_value)


class SegmentorNetwork(nn.Module):
    """A segmentor of MMSegmentation, from pixels to logits of the same size.

    Args:
        model: The segmentor, which becomes part of this network.
        preprocessing: What comes before it.
        labels: Return the label of every pixel instead of its logits.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, labels: bool):
        super().__init__()
        self.preprocessing = preprocessing
        self.model = model
        self.labels = labels

    def forward(self, images: Tensor) -> Tensor:
        """Maps ``(N, 3, H, W)`` to logits ``(N, classes, H, W)``, or to labels ``(N, H, W)`` in int64."""
        x = self.preprocessing(images)
        logits = self.model.encode_decode(x, [dict(img_shape=x.shape[2:])])
        logits = logits[:, :, :images.shape[2], :images.shape[3]]
        return class_scores(logits, self.model).argmax(1) if self.labels else logits


class FeatureNetwork(nn.Module):
    """Backbone and neck of a detector, from pixels to the features that the heads take."""

    def __init__(self, model: nn.Module, preprocessing: Preprocessing):
        super().__init__()
        self.preprocessing = preprocessing
        self.backbone = model.backbone
        self.neck = model.neck if getattr(model, 'with_neck', False) else nn.Identity()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps ``(N, 3, H, W)`` to a tuple of ``(N, C, H', W')``."""
        return tuple(self.neck(self.backbone(self.preprocessing(images))))


def is_segmentor(model: nn.Module) -> bool:
    """Whether ``model`` has logits for every pixel to export, not features alone."""
    return hasattr(model, 'encode_decode')


def class_scores(logits: Tensor, model: nn.Module) -> Tensor:
    """Returns scores ``(N, classes, H, W)`` whose argmax are the labels, from the logits of the segmentor ``model``.

    A segmentor with one output has a logit for label 1 and a threshold; label 0 gets the logit of the threshold.
    """
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.full_like(logits, math.log(1 / (1 / model.decode_head.threshold - 1))), logits], 1)


def exported_network(model: nn.Module, preprocessor: ConfigDict, labels: bool = False) -> nn.Module:
    """Returns the network to export, in evaluation mode: a merged and folded copy without the parts that only train.

    Args:
        model: A segmentor of MMSegmentation, or a detector of MMDetection in training or deploy form.
        preprocessor: The ``data_preprocessor`` of its config.
        labels: Whether a segmentor returns labels instead of logits.

    Raises:
        InputError: If ``model`` has no backbone, or a detector is to give labels.
    """
    if not hasattr(model, 'backbone'):
        raise InputError(f'a {type(model).__name__} has no backbone: neither logits nor features can be exported')
    if labels and not is_segmentor(model):
        raise InputError(f'a {type(model).__name__} gives no labels to pixels; its features can be exported')
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    reparameterize(twin)
    use_matrix_pools(twin)
    preprocessing = Preprocessing(preprocessor)
    if not is_segmentor(twin):
        return FeatureNetwork(twin, preprocessing).eval()
    if getattr(twin, 'auxiliary_head', None) is not None:
        del twin.auxiliary_head
    return SegmentorNetwork(twin, preprocessing, labels).eval()
