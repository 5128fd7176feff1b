"""A whole network in the runtimes that people deploy with on CPUs."""

import functools
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ...benchmarks.flops import image_channels
from ...benchmarks.runtimes import RUNTIMES, versions
from ...errors import InputError
from ...merging import reparameterize
from ..export.networks import exported_network, is_segmentor
from ..export.onnx_files import need_onnx
from .setting import Setting

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-1}  # of the largest value; OpenVINO computes in bfloat16 inside


def rivals_of(model: nn.Module, rivals: Sequence[str], part: str, preprocessor: dict,
              setting: Setting) -> dict[str, Callable[[], object]]:
    """Returns, for each rival, a function that runs an exported network, after comparing what it computes.

    Args:
        model: A segmentor, or with the part ``'backbone'`` any model, in training form and evaluation mode.
        rivals: Some of ``mmreplk.benchmarks.runtimes.RUNTIMES``. They get an ONNX file for images of this size only.
        part: ``'backbone'``, from normalized pixels to features, or ``'model'``, from pixels to labels.
        preprocessor: The ``data_preprocessor`` of the model's config.
        setting: How they are run.

    Raises:
        InputError: If a runtime is not installed or computes something else, or a detector is to be timed whole.
    """
    need_onnx()
    versions()
    if part != 'backbone' and not is_segmentor(model):
        raise InputError(f'of a {type(model).__name__}, rivals are timed on the backbone only')
    shape = setting.batch, image_channels(model), *setting.size
    if part == 'backbone':
        network, pixels = model.backbone, torch.rand(shape)
        reparameterize(network)
    else:
        network, pixels = exported_network(model, preprocessor, labels=True), torch.randint(256, shape).float()
    file, expected, array, found = _onnx(network, pixels), network(pixels), pixels.numpy(), {}
    for rival in rivals:
        run = RUNTIMES[rival](file, setting.dtype)
        _check(rival, run(array), expected, setting.dtype)
        found[rival] = functools.partial(run, array)
    return found


def _onnx(network: nn.Module, pixels: Tensor) -> bytes:
    """Returns the ONNX file for images of this size, which favours the runtimes over a file for any size."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        program = torch.onnx.export(network, (pixels, ), input_names=['images'], opset_version=20, dynamo=True,
                                    verbose=False)
    return program.model_proto.SerializeToString()


def _check(rival: str, outputs: list[np.ndarray], expected: Tensor | tuple[Tensor, ...], dtype: torch.dtype) -> None:
    if isinstance(expected, Tensor):  # labels: fresh weights leave some pixels undecided
        share = (torch.as_tensor(outputs[0]) == expected).float().mean().item()
        if dtype == torch.float32 and share < 0.999:
            raise InputError(f'{rival} gives {share:.2%} of the pixels the labels of the model')
        return
    for i, (actual, wanted) in enumerate(zip(outputs, expected, strict=True)):
        error = ((torch.as_tensor(actual) - wanted).abs().max() / wanted.abs().max()).item()
        if not error <= TOLERANCE[dtype]:
            raise InputError(f'{rival} differs from the model by {error:.1e} of the largest value of output {i}')
