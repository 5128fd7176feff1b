"""ONNX files of exported networks in 8-bit integers."""

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from torch import Tensor

from ...errors import InputError
from ...spread import evenly_spread
from ..checks.preflight import check_data
from ..data.reading import unwrapped
from ..inference.classes import test_dataset_config
from .onnx_files import OnnxNetwork

METHODS = dict(minmax='MinMax', entropy='Entropy', percentile='Percentile')


def quantize(path: str | Path,
             images: Iterable[Tensor],
             method: str = 'minmax',
             in_float: Sequence[str] = ()) -> bytes:
    """Returns an exported network with 8-bit weights, one scale for each filter, and 8-bit activations.

    Args:
        path: The ONNX file.
        images: Pixels ``(N, C, H, W)`` on which the ranges of activations are found, which then stay fixed.
        method: How they are found, one of :data:`METHODS`.
        in_float: Patterns for the names of nodes that stay in float, such as ``*large_kernel*``.

    Raises:
        InputError: If ``path`` is not an exported network, or a pattern fits no node of it.
    """
    OnnxNetwork.load(path)
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process
    with TemporaryDirectory() as folder:
        prepared, result = Path(folder, 'prepared.onnx'), Path(folder, 'int8.onnx')
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        kept = _matching([node.name for node in onnx.load(prepared).graph.node], in_float)
        quantization.quantize_static(
            prepared, result, _Reader(images), per_channel=True, nodes_to_exclude=kept,
            calibrate_method=quantization.CalibrationMethod[METHODS[method]],
            activation_type=quantization.QuantType.QUInt8)
        data = result.read_bytes()
    OnnxNetwork(data, 'what onnxruntime quantized')
    return data


def training_images(cfg: Config, count: int) -> Iterator[Tensor]:
    """Yields pictures spread over the training data of ``cfg``, prepared as for a test.

    Args:
        cfg: Config of a segmentor or detector.
        count: How many at most.

    Yields:
        Pixels ``(1, C, H, W)`` in float32.

    Raises:
        InputError: If the data are missing.
    """
    check_data(cfg, 'train_dataloader')
    init_default_scope(cfg.default_scope)
    described = dict(unwrapped(cfg.train_dataloader.dataset), pipeline=test_dataset_config(cfg)['pipeline'])
    dataset = DATASETS.build(described)
    for index in evenly_spread(range(len(dataset)), count):
        yield dataset[index]['inputs'][None].float()


class _Reader:
    """Hands onnxruntime the data for calibration."""

    def __init__(self, images: Iterable[Tensor]):
        self._images = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else dict(images=image.numpy())


def _matching(names: list[str], patterns: Sequence[str]) -> list[str]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f'no node of the network is named {pattern!r}; the first are {", ".join(names[:3])}')
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
