"""A trained segmentor or detector as a function from pictures to predictions."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from ...benchmarks.flops import image_channels
from ...errors import InputError
from ...merging import reparameterize
from ...packing import inference_dtype
from ...weights import STREETS
from ...weights.conversion import load_whole
from ...weights.files import read_checkpoint
from ..building import adapt_backbone
from ..config import config_errors, load_config
from ..data.reading import shown
from . import sliding_detection, sliding_segmentation
from .classes import known_classes, test_dataset_config
from .detections import Detections
from .loading import PictureLoader, Preparation
from .overlays import blend
from .segmentation import Segmentation
from .windows import Windows

Prediction = Segmentation | Detections
PREDICTIONS = dict(mmseg=Segmentation, mmdet=Detections)


class Predictor:
    """Predicts with a trained model, merged and folded for good.

    The config's test pipeline prepares images, and the framework's own ``test_step`` runs the model on them.

    Args:
        cfg: Config of MMSegmentation or MMDetection, as :func:`mmreplk.mm.config.load_config` returns it, or its file.
            Without config and checkpoint it is the model that comes with the package
            (:data:`mmreplk.weights.STREETS`).
        checkpoint: Checkpoint of the whole model, in training, merged or folded form: a file, or a name of weights.
        windows: Windows in which large images are predicted: for a segmentor in pixels of what its test pipeline makes
            of an image, for a detector in pixels of the image itself. None for those of ``model.test_cfg``, or for the
            whole image at once if there are none.
        batch_size: How many images, or windows, the model sees at once. What it predicts does not depend on it.
        device: ``'cpu'``, ``'cuda:0'`` or another device of PyTorch; None for the best that there is.
        least_score: The least score of detections that are shown.
        trusted: Whether the checkpoint may hold any pickle.
        dtype: ``'bfloat16'`` to compute the network in it, which is faster on CPUs that have instructions for it, or
            ``'float32'``.

    Raises:
        InputError: If the config is neither MMSegmentation's nor MMDetection's, or the checkpoint cannot be read or
            does not fit.

    Attributes:
        model: The model, in evaluation mode.
        classes: The classes that it tells apart.
        merged: How many of its large kernels were merged and BatchNorms folded.
        read: Reads a file as the test pipeline does.
    """

    def __init__(self,
                 cfg: Config | str | Path = STREETS.config,
                 checkpoint: str | Path | None = None,
                 windows: Windows | None = None,
                 batch_size: int = 1,
                 device: str | None = None,
                 least_score: float = 0.3,
                 trusted: bool = False,
                 dtype: str = 'float32'):
        if batch_size < 1:
            raise InputError(f'the batch size must be positive, got {batch_size}')
        if checkpoint is None:
            if cfg != STREETS.config:
                raise InputError('the model needs a checkpoint, got None')
            checkpoint = STREETS.name
        if isinstance(cfg, (str, Path)):
            cfg = load_config(str(cfg))
        if not isinstance(cfg, Config):
            raise InputError(f'cfg must be a Config of MMEngine or the path of a config file, got {type(cfg).__name__}')
        self.prediction = prediction_type(cfg)
        self.batch_size = batch_size
        self.least_score = least_score
        saved = read_checkpoint(checkpoint, trusted)
        with config_errors(cfg):
            init_default_scope(cfg.default_scope)
            self.model = _load(cfg, saved, str(checkpoint), device or get_device())
            pipeline = test_dataset_config(cfg)['pipeline']
            self._prepare = Preparation(pipeline)
        self.classes = known_classes(cfg, saved, _count_classes(self.model))
        self.read = PictureLoader(pipeline, image_channels(self.model))
        self.merged = reparameterize(self.model, pack=True, dtype=inference_dtype(dtype))
        self.windows = windows or _configured_windows(self.model)

    def __call__(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """Predicts images.

        Args:
            images: Each BGR ``(H, W, 3)``, uint8, as OpenCV reads it, or as :attr:`read` returns it.

        Returns:
            A :class:`Segmentation` or :class:`Detections` for each.

        Raises:
            InputError: If ``images`` is not a list of images, or one is not for this model, for example too small.
        """
        _check_images(images)
        images = [self.read.adapted(image) for image in images]
        if self.prediction is Segmentation:
            predict = self._segment_whole if self.windows is None else self._segment_in_windows
            return list(predict(images))
        return self._detect(images) if self.windows is None else list(map(self._detect_in_windows, images))

    def overlay(self, image: np.ndarray, prediction: Prediction, opacity: float = 0.5) -> np.ndarray:
        """Draws what was predicted over its picture: classes in their colours, or masks, boxes and captions.

        Args:
            image: The picture that was predicted.
            prediction: Its prediction.
            opacity: 0 for the picture alone, 1 for the prediction as opaque as it is.

        Returns:
            BGR ``(H, W, 3)``, uint8, as ``cv2.imwrite`` writes it.

        Raises:
            InputError: If the prediction is of a picture of another size.
        """
        layer = prediction.layer(self.classes)
        if layer.shape[:2] != image.shape[:2]:
            raise InputError(f'the prediction is of a picture of {layer.shape[0]}x{layer.shape[1]} pixels, height x '
                             f'width, but the picture has {image.shape[0]}x{image.shape[1]}')
        return blend(shown(image), layer, opacity)

    def _segment_whole(self, images: Sequence[np.ndarray]) -> Iterator[Segmentation]:
        for sample in self._forward(images):
            yield self._segmentation(sample.pred_sem_seg.data[0])

    @torch.no_grad()
    def _segment_in_windows(self, images: Sequence[np.ndarray]) -> Iterator[Segmentation]:
        for batch in self._prepared(images, 1):
            data = self.model.data_preprocessor(batch, False)
            labels = sliding_segmentation.segment(self.model, data['inputs'], data['data_samples'][0].metainfo,
                                                  self.windows, self.batch_size)
            yield self._segmentation(labels)

    def _segmentation(self, labels: torch.Tensor) -> Segmentation:
        dtype = np.uint8 if len(self.classes.names) <= 256 else np.uint16
        return Segmentation(labels.cpu().numpy().astype(dtype))

    def _detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        samples = self._forward(images)
        return [self._detections(sample, image) for sample, image in zip(samples, images, strict=True)]

    def _detect_in_windows(self, image: np.ndarray) -> Detections:
        size, crop = image.shape[:2], self.windows.crop
        corners = [(y, x) for y in self.windows.starts(0, size[0]) for x in self.windows.starts(1, size[1])]
        parts = []
        for i in range(0, len(corners), self.batch_size):  # masks of all windows at once would take too much memory
            views = [image[y:y + crop[0], x:x + crop[1]] for y, x in corners[i:i + self.batch_size]]
            parts += self._detect(views)
        return sliding_detection.merge(parts, corners, size)

    def _detections(self, sample, image: np.ndarray) -> Detections:
        if 'pred_instances' not in sample:
            raise InputError(f'{type(self.model).__name__} predicts no boxes or masks of objects, but {sample.keys()}')
        found = sample.pred_instances
        boxes, masks = found.bboxes.cpu().numpy(), None
        if 'masks' in found:
            from pycocotools import mask as coco  # comes with MMDetection
            masks = [coco.encode(np.asfortranarray(mask.cpu().numpy(), np.uint8)) for mask in found.masks]
            if masks and not boxes.any():  # of models that predict masks only
                boxes = coco.toBbox(masks)
                boxes[:, 2:] += boxes[:, :2]
        return Detections(boxes, found.scores.cpu().numpy(), found.labels.cpu().numpy(), masks, image.shape[:2],
                          self.least_score)

    def _forward(self, images: Sequence[np.ndarray]) -> Iterator:
        for batch in self._prepared(images, self.batch_size):
            with torch.no_grad():
                samples = self.model.test_step(batch)
            yield from samples

    def _prepared(self, images: Sequence[np.ndarray], batch_size: int) -> Iterator[dict]:
        """Yields batches of images of one size, as a model takes them.

        Images of several sizes would have to be padded, and predictions would depend on what they are padded to.
        """
        samples = map(self._prepare, images)
        for _, group in groupby(samples, lambda sample: sample['inputs'].shape):
            batch = []
            for sample in group:
                batch.append(sample)
                if len(batch) == batch_size:
                    yield pseudo_collate(batch)
                    batch = []
            if batch:
                yield pseudo_collate(batch)


def _check_images(images: object) -> None:
    if isinstance(images, np.ndarray) or not isinstance(images, Sequence) or isinstance(images, str):
        shape = f' of shape {images.shape}' if isinstance(images, np.ndarray) else ''
        raise InputError(f'images must be a list of pictures, even for a single one: [image]; got '
                         f'{type(images).__name__}{shape}')
    for i, image in enumerate(images):
        if image is None:
            raise InputError(f'images[{i}] is None, which cv2.imread returns for a file that is missing or not a '
                             'picture; read_image says which')
        if not isinstance(image, np.ndarray) or image.ndim not in (2, 3) or not image.size:
            shape = f' of shape {image.shape}' if hasattr(image, 'shape') else ''
            raise InputError(f'images[{i}] must be an array (H, W, 3) as OpenCV reads a picture, got '
                             f'{type(image).__name__}{shape}')


def prediction_type(cfg: Config) -> type[Prediction]:
    """Returns what a model of ``cfg`` predicts.

    Raises:
        InputError: If it is neither MMSegmentation's nor MMDetection's.
    """
    scope = cfg.get('default_scope')
    if scope not in PREDICTIONS:
        raise InputError(f'default_scope must be one of {", ".join(PREDICTIONS)} in the config, got {scope!r}')
    return PREDICTIONS[scope]


def _load(cfg: Config, saved: Mapping, source: str, device: str) -> nn.Module:
    """Builds the model of ``cfg``, in evaluation mode, with the weights in ``saved``."""
    cfg = copy.deepcopy(cfg)
    adapt_backbone(cfg, saved)
    cfg.model.pop('pretrained', None)  # of older configs
    model = MODELS.build(cfg.model)
    load_whole(model, saved, source)
    return revert_sync_batchnorm(model.to(device)).eval()


def _count_classes(model: nn.Module) -> int:
    # A detector's RPN has one class, an auxiliary head those of the decode head.
    return max(getattr(module, 'num_classes', None) or 1 for module in model.modules())


def _configured_windows(model: nn.Module) -> Windows | None:
    test_cfg = getattr(model, 'test_cfg', None) or {}
    if test_cfg.get('mode') != 'slide':
        return None
    if not test_cfg.get('crop_size') or not test_cfg.get('stride'):
        raise InputError(f"model.test_cfg with mode='slide' needs crop_size and stride, it has {dict(test_cfg)}")
    return Windows.of(test_cfg['crop_size'], test_cfg['stride'])
