"""ONNX files of networks for images of any number and size: writing them, and running them in onnxruntime."""

import importlib.util
import json
from pathlib import Path

import torch
from torch import Tensor

from ...errors import InputError

PACKAGES = ('onnx', 'onnxruntime', 'onnxscript')
LARGEST = 2**31 - 1  # bytes, the most that a Protocol Buffer holds


def need_onnx() -> None:
    """Raises InputError unless the packages that write and run ONNX are installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'ONNX needs {" and ".join(missing)}: pip install {" ".join(missing)}, or mmreplk[export]')


def onnx_file(program: torch.export.ExportedProgram, outputs: list[str], metadata: dict, opset: int) -> bytes:
    """Returns a captured network of one input as an ONNX file that ONNX's checker has passed.

    Args:
        program: The network.
        outputs: Names of what it returns.
        metadata: What the file is to say about itself, plain values by name.
        opset: The operator set.

    Raises:
        InputError: If the file would be larger than ONNX allows.
    """
    import onnx
    model = torch.onnx.export(program, dynamo=True, input_names=['images'], output_names=outputs, opset_version=opset,
                              verbose=False).model_proto
    if model.ByteSize() > LARGEST:
        raise InputError(f'the network takes {model.ByteSize() / 2**30:.1f} GiB, but an ONNX file holds at most 2')
    graph = model.graph
    _name_by_module(graph)
    for entry in (model, graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        del entry.metadata_props[:]  # the exporter's notes, paths of the machine among them
    onnx.helper.set_model_props(model, {name: _text(value) for name, value in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


class OnnxNetwork:
    """An ONNX file that runs in onnxruntime, on CPUs and on as many threads as PyTorch has.

    Args:
        data: The file.
        source: Its path, for messages.

    Attributes:
        outputs: The names of what it returns.

    Raises:
        InputError: If onnxruntime cannot run it, or it takes something else than ``images``.
    """

    def __init__(self, data: bytes, source: str = 'it'):
        need_onnx()
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(data, options, ['CPUExecutionProvider'])
        except Exception as error:  # onnxruntime has a class of its own for every way in which a file is wrong
            raise InputError(f'{source} cannot be run by onnxruntime: {str(error).splitlines()[0]}') from error
        inputs = [node.name for node in self._session.get_inputs()]
        if inputs != ['images']:
            raise InputError(f'{source} was not written by tools/deployment/export.py: it takes {inputs}, not images')
        self.outputs = [node.name for node in self._session.get_outputs()]

    @classmethod
    def load(cls, path: str | Path) -> 'OnnxNetwork':
        """Reads the file at ``path``; InputError if there is none."""
        try:
            return cls(Path(path).read_bytes(), str(path))
        except OSError as error:
            raise InputError(f'{str(path)!r} cannot be read: {error.strerror}') from error

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns what the network makes of pixels ``(N, C, H, W)``."""
        return tuple(map(torch.from_numpy, self._session.run(None, {'images': images.numpy()})))


def _name_by_module(graph) -> None:
    """Names convolutions and the like after their modules, so that a user can tell which is which."""
    taken = set()
    for node in graph.node:
        names = (name.removesuffix('.weight') for name in node.input if name.endswith('.weight'))
        name = next(names, node.name)
        node.name = node.name if name in taken else name
        taken.add(node.name)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
