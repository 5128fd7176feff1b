"""From a checkpoint to a file that needs neither OpenMMLab nor this package."""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from ...errors import InputError
from ...version import __version__
from ...weights.conversion import load_whole
from ..building import adapt_backbone
from ..inference.classes import known_classes
from .agreement import Check, compare, random_batches
from .formats import FORMATS
from .networks import exported_network, is_segmentor
from .onnx_files import need_onnx
from .transposed import use_transposed_kernels

TOLERANCE = 1e-4  # of the largest value: what rounding through some 200 layers explains
DEFAULT_STRIDE = 32
_PREPROCESSING = ('mean', 'std', 'bgr_to_rgb', 'rgb_to_bgr', 'pad_size_divisor', 'pad_value', 'pad_val', 'test_cfg')


class Exported(NamedTuple):
    """A file that has been compared with the model.

    Attributes:
        data: Its bytes.
        metadata: What it says about itself.
        checks: How far it is from the model, batch by batch.
    """
    data: bytes
    metadata: dict
    checks: list[Check]


def export(cfg: Config,
           saved: Mapping,
           source: str,
           format: str = 'onnx',
           labels: bool = False,
           opset: int = 20,
           shape: tuple[int, int] = (256, 256),
           batches: Sequence[Tensor] | None = None,
           tolerance: float = TOLERANCE,
           transposed: int | None = None) -> Exported:
    """Exports a trained model, merged and folded, for images of any number and size, and checks what the file computes.

    A segmentor is exported down to its logits in the size of the image, or to labels; of a detector, the backbone and
    the neck are exported. Pixels go in as OpenCV decodes them: what the data preprocessor does is part of the network.

    Args:
        cfg: Config of a segmentor or detector.
        saved: Its checkpoint, as :func:`mmreplk.weights.read_checkpoint` returns it.
        source: The checkpoint's path, for messages.
        format: One of :data:`FORMATS`.
        labels: Whether a segmentor's file returns labels instead of logits.
        opset: ONNX's operator set.
        shape: Height and width, in pixels, of the image that the exporter follows through the network, and of noise to
            compare on.
        batches: Pixels ``(N, C, H, W)`` to compare on; None for noise.
        tolerance: How far the file may be from the model, as a share of the largest value of an output.
        transposed: Kernel size whose depthwise convolutions are written as transposed ones with the flipped filter.

    Raises:
        InputError: If the model cannot be exported, or the file does not compute the same.
    """
    if format not in FORMATS:
        raise InputError(f'the format must be one of {", ".join(FORMATS)}, got {format!r}')
    if not tolerance > 0:
        raise InputError(f'the tolerance must be positive, got {tolerance}')
    if format == 'onnx':
        need_onnx()
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    adapt_backbone(cfg, saved)
    model = MODELS.build(cfg.model).eval()
    load_whole(model, saved, source)
    network = exported_network(model, cfg.model.get('data_preprocessor') or {}, labels)
    if transposed is not None:
        use_transposed_kernels(network, transposed)
    least = _least_size(model.backbone, cfg.model.backbone.get('in_channels', 3))
    if min(shape) < least:
        raise InputError(f'the shape must be at least {least}x{least} pixels, got {shape[0]}x{shape[1]}')
    noise = random_batches((cfg.model.backbone.get('in_channels', 3), *shape))
    example = noise[1]  # of two images: exporters would take a batch of one for a constant
    outputs = _output_names(network, example, labels)
    metadata = _metadata(cfg, saved, model, outputs, least)
    with _quiet():
        try:
            data = FORMATS[format].write(network, example, least, outputs, metadata, opset)
        except InputError:
            raise
        except Exception as error:  # every exporter has its own classes of errors
            reason = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
            raise InputError(f'a {type(model).__name__} with {type(model.backbone).__name__} cannot be exported to '
                             f'{format} for images of any size: {reason}') from error
    checks = list(compare(model, FORMATS[format].read(data), noise if batches is None else batches, labels))
    worst = max(checks, key=lambda check: check.difference)
    if not worst.difference <= tolerance:
        raise InputError(f'the exported network differs from the model by {worst.difference:.1e} of the largest value '
                         f'on a batch of {worst.shape}, more than {tolerance:.0e}: it is not written')
    return Exported(data, metadata, checks)


@torch.no_grad()
def _least_size(backbone: nn.Module, channels: int) -> int:
    """Returns the least height and width of an image whose last features have two pixels a side.

    PyTorch takes a map of one pixel for a constant that it may broadcast.
    """
    stride = getattr(backbone, 'total_stride', DEFAULT_STRIDE)
    rounds_up = backbone(torch.zeros(1, channels, stride + 1, stride + 1))[-1].shape[-1] > 1
    return stride + 1 if rounds_up else 2 * stride


@torch.no_grad()
def _output_names(network: nn.Module, images: Tensor, labels: bool) -> list[str]:
    out = network(images)
    if isinstance(out, Tensor):
        return ['labels' if labels else 'logits']
    return [f'features_{i}' for i in range(len(out))]


def _metadata(cfg: Config, saved: Mapping, model: nn.Module, outputs: list[str], least: int) -> dict:
    preprocessor = cfg.model.get('data_preprocessor') or {}
    classes = known_classes(cfg, saved, model.num_classes).palette() if is_segmentor(model) else []
    return dict(
        producer=f'mmreplk {__version__}',
        config=Path(cfg.filename or '').name,
        form='merged and folded',
        input=f'float32 (batch, channels, height, width) of at least {least}x{least}, pixels from 0 to 255 with the '
              'channels as OpenCV decodes them (BGR); what data_preprocessor says is done inside',
        outputs=outputs,
        data_preprocessor={name: value for name, value in preprocessor.items() if name in _PREPROCESSING},
        classes=classes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps exporters from warning about their own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(before)
