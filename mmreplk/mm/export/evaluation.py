"""Exported segmentors, evaluated as the model itself is, and timed."""

import copy
import functools
from collections.abc import Sequence

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from torch import nn

from ...benchmarks.measure import time_in_turns
from ...errors import InputError
from ..runner import build_runner, close_runner
from .onnx_files import OnnxNetwork


@MODELS.register_module(name='OnnxSegmentor')
def build_onnx_segmentor(model: ConfigDict, file: str) -> nn.Module:
    """Builds a segmentor whose network is an ONNX file; MMSegmentation does the rest, such as sliding and resizing.

    Args:
        model: Config of the segmentor of MMSegmentation that was exported.
        file: The ONNX file, which must return logits.

    Raises:
        InputError: If onnxruntime cannot run ``file``, or it returns something else.
    """
    network = OnnxNetwork.load(file)
    if network.outputs != ['logits']:
        raise InputError(f'{file!r} gives {", ".join(network.outputs)}, but an evaluation needs logits')
    segmentor = MODELS.build(dict(model, data_preprocessor=dict(type='SegDataPreProcessor')))
    segmentor.backbone = None
    segmentor.encode_decode = lambda inputs, metas: network(inputs)[0]
    return segmentor


def evaluate(cfg: Config, file: str) -> dict[str, float]:
    """Returns the metrics of an ONNX file on the test data of ``cfg``, the config of the exported model."""
    cfg = copy.deepcopy(cfg)
    cfg.model = dict(type='OnnxSegmentor', model=cfg.model, file=file)
    for name in ('load_from', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        cfg[name] = None
    runner = build_runner(cfg)
    metrics = runner.test()
    close_runner(runner)
    return {name: float(value) for name, value in metrics.items()}


def time_files(files: Sequence[str], shape: tuple[int, ...], rounds: int = 10) -> list[list[float]]:
    """Times ONNX files in turns on noise of the shape ``(N, C, H, W)``; returns the milliseconds of each round."""
    images = torch.randint(256, shape).float()
    networks = {str(i): OnnxNetwork.load(file) for i, file in enumerate(files)}
    work = {name: functools.partial(network, images) for name, network in networks.items()}
    return list(time_in_turns(work, rounds=rounds).values())
