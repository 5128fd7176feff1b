"""The runtimes that people deploy with on CPUs, and one convolution in them, as rivals of the operator."""

import contextlib
import ctypes
import functools
import importlib.util
import io
import statistics
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..ops import depthwise_conv2d, reference
from .measure import time_in_turns

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # of the largest value
CHECKED = 2  # images and channels that are compared with float64; none depends on the others
LIMIT_OF_PYTORCH = 3e9  # N * C * H * W * KH * KW from which on PyTorch takes a second and more, and is not timed
Run = Callable[[np.ndarray], list[np.ndarray]]
PACKAGES = ('onnx', 'onnxruntime', 'openvino')


class Case(NamedTuple):
    """A convolution: the network that it is from, input ``(N, C, H, H)``, kernel ``KH x KW``."""
    network: str
    n: int
    c: int
    h: int
    kh: int
    kw: int


# The stages of the networks on images of 512x512, without the batch.
STAGES = [
    ('RepLKNet-31B', 128, 128, 31, 31), ('RepLKNet-31B', 256, 64, 29, 29), ('RepLKNet-31B', 512, 32, 27, 27),
    ('RepLKNet-31B', 1024, 16, 13, 13), ('UniRepLKNet-T', 160, 64, 13, 13), ('UniRepLKNet-T', 320, 32, 13, 13),
    ('UniRepLKNet-T', 640, 16, 13, 13), ('SLaK-T', 124, 128, 51, 5), ('SLaK-T', 124, 128, 5, 51),
    ('SLaK-T', 499, 32, 47, 5), ('SLaK-T', 499, 32, 5, 47),
]


def versions() -> dict[str, str]:
    """Returns the versions of the runtimes; InputError if one is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f'{" and ".join(missing)} must be installed: pip install mmreplk[runtimes]')
    return {name: version(name) for name in PACKAGES}


@torch.no_grad()
def compare(case: Case, dtype: torch.dtype, rounds: int = 10) -> list[dict[str, Any]]:
    """Times a forward pass by the operator, PyTorch, ONNX Runtime and OpenVINO in turns, all with PyTorch's threads.

    A runtime has the filter in its model, packed as it likes, and takes and returns float32 arrays. For bfloat16,
    OpenVINO computes in it inside; ONNX Runtime cannot on CPUs, and computes in float32.

    Returns:
        A row for each, for PyTorch only below LIMIT_OF_PYTORCH: the case, the dtype, ``rival``, the largest ``error``
        relative to the largest value, median and raw times in milliseconds. One that is wrong has no times.

    Raises:
        InputError: If a runtime is not installed.
    """
    versions()
    _, n, c, h, kh, kw = case
    x, weight = torch.randn(n, c, h, h), torch.randn(c, 1, kh, kw) / max(kh, kw)
    model, pixels = _one_layer(x, weight), x.numpy()
    own = x.to(dtype), weight.to(dtype)
    work: dict[str, Callable[[], Any]] = {
        'mmreplk': lambda: depthwise_conv2d(*own),
        **{name: functools.partial(load(model, dtype), pixels) for name, load in RUNTIMES.items()},
    }
    if n * c * h * h * kh * kw < LIMIT_OF_PYTORCH:
        work['torch'] = lambda: F.conv2d(*own, padding=(kh // 2, kw // 2), groups=c)
    some = slice(CHECKED), slice(CHECKED)
    expected = reference.forward(x[some].double(), weight[some[1]].double())
    rows = []
    for name, run in work.items():
        out = run()
        out = torch.as_tensor(out if isinstance(out, Tensor) else out[0])[some].double()
        error = ((out - expected).abs().max() / expected.abs().max()).item()
        rows.append(dict(case._asdict(), dtype=str(dtype).removeprefix('torch.'), rival=name, error=error))
    right = {row['rival']: work[row['rival']] for row in rows if row['error'] <= TOLERANCE[dtype]}
    times = time_in_turns(right, rounds=rounds)
    for row in rows:
        if row['rival'] in times:
            raw = times[row['rival']]
            row.update(median_ms=statistics.median(raw), raw_ms=raw)
    return rows


def _one_layer(x: Tensor, weight: Tensor) -> bytes:
    """Returns the ONNX file of the convolution."""
    c, _, kh, kw = weight.shape
    conv = nn.Conv2d(c, c, (kh, kw), padding=(kh // 2, kw // 2), groups=c, bias=False)
    conv.weight.copy_(weight)
    buffer = io.BytesIO()
    torch.onnx.export(conv, (x, ), buffer, input_names=['x'], output_names=['y'], dynamo=False, verbose=False)
    return buffer.getvalue()


def load_onnxruntime(model: bytes, dtype: torch.dtype) -> Run:
    """Returns a function that runs an ONNX file; it computes in float32, whatever ``dtype``."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    return lambda pixels: session.run(None, {name: pixels})


def load_openvino(model: bytes, dtype: torch.dtype) -> Run:
    """Returns a function that runs an ONNX file in ``dtype``."""
    import openvino
    core = openvino.Core()
    options = dict(INFERENCE_NUM_THREADS=torch.get_num_threads(), PERFORMANCE_HINT='LATENCY',
                   INFERENCE_PRECISION_HINT='bf16' if dtype == torch.bfloat16 else 'f32')
    with _signal_stack_kept():
        request = core.compile_model(core.read_model(io.BytesIO(model)), 'CPU', options).create_infer_request()
    return lambda pixels: list(request.infer([pixels], share_inputs=True, share_outputs=True).values())


@contextlib.contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """OpenVINO 2026.4 sets a stack for signals that it frees with the model: the next signal would end the process."""
    kept = ctypes.create_string_buffer(64)  # a stack_t has 24 bytes
    sigaltstack = getattr(ctypes.CDLL(None), 'sigaltstack', lambda *_: None)
    sigaltstack(None, kept)
    try:
        yield
    finally:
        sigaltstack(kept, None)


RUNTIMES = {'onnxruntime': load_onnxruntime, 'openvino': load_openvino}
