"""The formats that a network can be exported to, and how each is run again."""

import io
import json
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .onnx_files import OnnxNetwork, onnx_file

METADATA = 'metadata.json'  # beside the network in PyTorch's own formats
Runner = Callable[[Tensor], tuple[Tensor, ...]]


class Format(NamedTuple):
    """How a format is written and run.

    Attributes:
        write: Returns a network as a file. Takes the network, pixels ``(2, C, H, W)`` to follow through it, the least
            height and width of any image, the names of its outputs, what the file is to say about itself, and the
            operator set of ONNX.
        read: Returns a function that runs such a file on pixels of any number and size.
    """
    write: Callable[[nn.Module, Tensor, int, list[str], dict, int], bytes]
    read: Callable[[bytes], Runner]


def _captured(network: nn.Module, images: Tensor, least: int) -> torch.export.ExportedProgram:
    sizes = torch.export.Dim('height', min=least), torch.export.Dim('width', min=least)
    return torch.export.export(
        network, (images, ), dynamic_shapes=({0: torch.export.Dim('batch'), 2: sizes[0], 3: sizes[1]}, ), strict=False,
        prefer_deferred_runtime_asserts_over_guards=True)


def _write_onnx(network: nn.Module, images: Tensor, least: int, outputs: list[str], metadata: dict,
                opset: int) -> bytes:
    return onnx_file(_captured(network, images, least), outputs, metadata, opset)


def _write_pt2(network: nn.Module, images: Tensor, least: int, outputs: list[str], metadata: dict, opset: int) -> bytes:
    file = io.BytesIO()
    torch.export.save(_captured(network, images, least), file, extra_files={METADATA: json.dumps(metadata)})
    return file.getvalue()


def _read_pt2(data: bytes) -> Runner:
    return _tupled(torch.export.load(io.BytesIO(data)).module())


def _write_torchscript(network: nn.Module, images: Tensor, least: int, outputs: list[str], metadata: dict,
                       opset: int) -> bytes:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(network, images, check_trace=False), file, {METADATA: json.dumps(metadata)})
    return file.getvalue()


def _read_torchscript(data: bytes) -> Runner:
    return _tupled(torch.jit.load(io.BytesIO(data)))


def _tupled(network: Callable) -> Runner:

    def run(images: Tensor) -> tuple[Tensor, ...]:
        out = network(images)
        return (out, ) if isinstance(out, Tensor) else tuple(out)

    return run


FORMATS = {
    'onnx': Format(_write_onnx, OnnxNetwork),
    'pt2': Format(_write_pt2, _read_pt2),
    'torchscript': Format(_write_torchscript, _read_torchscript),
}
