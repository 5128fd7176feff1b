"""Which backend computes a convolution, and why another one cannot."""

import functools
import logging

import torch
from torch import Tensor

from ..required import TRITON_PROBLEM
from . import cpu, gpu
from .operands import Geometry, compute_dtype, wanted_gradients
from .tracing import constant

BACKENDS = ('torch', 'cpu', 'triton')


def backends() -> dict[str, str | None]:
    """Returns the backends by name: None for one that works on this machine, else the reason why not."""
    gpu = torch.device('cuda', torch.cuda.current_device()) if torch.cuda.is_available() else None
    return {name: why_not_here(name, gpu) for name in BACKENDS}


def choose_backend(x: Tensor, weight: Tensor, kernel_size: tuple[int, int], geometry: Geometry) -> str:
    """Returns the backend that should be fastest: ``'torch'``, or the one for the device of ``x``."""
    wanted = wanted_gradients(x, weight)
    if x.is_cuda:
        is_faster = gpu.gains(x.numel(), kernel_size, wanted[1])
    else:
        is_faster = cpu.gains(x, weight, compute_dtype(x), geometry.dilation, geometry.is_same, wanted)
    if not is_faster or _is_exported():
        return 'torch'
    backend = 'triton' if x.is_cuda else 'cpu'
    reason = why_not(backend, x, geometry)
    if reason is None:
        return backend
    if x.is_cuda and not torch.compiler.is_compiling():
        _log_once(f'depthwise_conv2d leaves kernels of {max(kernel_size)} on {x.device.type} to PyTorch: {reason}')
    return 'torch'


def why_not(backend: str, x: Tensor, geometry: Geometry) -> str | None:
    """Returns why ``backend`` cannot compute this; None if it can."""
    if backend == 'torch':
        return None
    if backend not in BACKENDS:
        return "there are 'torch', 'cpu' and 'triton'"
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f'it needs float32, bfloat16 or float16, got {x.dtype}'
    if x.numel() == 0:
        return f'it needs a non-empty input, got {tuple(x.shape)}'
    if x.device.type != ('cpu' if backend == 'cpu' else 'cuda'):
        return f'the input is on {x.device}'
    if backend == 'triton' and not geometry.is_same:
        return 'it needs odd kernel sizes, stride 1 and "same" padding'
    if backend == 'triton' and (problem := gpu.why_too_large(x.shape, geometry.padding)) is not None:
        return problem
    return why_not_here(backend, x.device)


def why_not_here(backend: str, gpu: torch.device | None) -> str | None:
    """Returns why ``backend`` does not work on this machine, or on ``gpu``; None if it does."""
    if backend == 'torch':
        return None
    if backend == 'cpu':
        return None if cpu.IS_SUPPORTED else 'it needs an x86 CPU with AVX2 and oneDNN'
    if TRITON_PROBLEM is not None:
        return TRITON_PROBLEM
    if gpu is None:
        return 'PyTorch finds no GPU that it can use'
    if torch.version.hip or torch.cuda.get_device_properties(gpu).major < 8:
        return 'it needs an NVIDIA GPU of compute capability 8.0 or higher'
    return _fault_of_triton(gpu)


@constant
def _fault_of_triton(device: torch.device) -> str | None:
    """Returns why Triton cannot compile and run a kernel here, such as without a C compiler; None if it can.

    A plain function: Dynamo of PyTorch 2.11 looks through a cache, and traces what is behind it.
    """
    return _tried(device)


@functools.cache
def _tried(device: torch.device) -> str | None:
    try:
        from . import triton
        with torch.cuda.device(device):
            x = torch.ones(1, 1, 8, 8, device=device)
            triton.forward(x, x[..., :3, :3])
    except Exception as error:  # Compilers and drivers raise what they like.
        return f'Triton does not work here: {type(error).__name__}: {error}'.splitlines()[0]
    return None


@constant
def _is_exported() -> bool:
    """Whether an exporter is active, which should see an ordinary convolution.

    Python evaluates this, not Dynamo, in which ``is_exporting`` is always true in PyTorch 2.11.
    """
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


@functools.cache
def _log_once(message: str) -> None:
    logging.getLogger('mmreplk').warning(message)
