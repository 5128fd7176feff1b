"""The form of a merged and folded network that is fastest at inference: packed layers, and a dtype of its own."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .errors import InputError
from .ops import memory_format
from .ops.cpu.packed import why_not

DTYPES = {'float32': None, 'bfloat16': torch.bfloat16}  # float32 is what parameters have


def inference_form(module: nn.Module, pack: Callable[[nn.Module], nn.Module] | None,
                   dtype: torch.dtype | None) -> nn.Module:
    """Returns what computes the same as a merged and folded ``module``: that itself, changed, or another module.

    Args:
        module: In evaluation mode; it is of no use afterwards. Its inputs and results must be tensors or lists of them.
        pack: Packs it, on CPUs where that works; a reason why it does not is logged once. None to leave it as it is.
        dtype: What it computes in; inputs are cast to it. None for its own.

    Results have the dtype and the memory format of the first input.
    """
    first = next(module.parameters(), None)
    if first is None or not (pack or dtype):
        return module
    dtype = dtype or first.dtype
    module = module.to(dtype)
    if pack and first.device.type == 'cpu':
        reason = why_not(dtype)
        if reason is None:
            module = pack(module)
        else:
            _log_once(f'Layers are not packed for inference: {reason}.')
    module.forward = _computing_in(dtype, module.forward)
    return module


def inference_dtype(name: str) -> torch.dtype | None:
    """Returns the ``dtype`` that the user names for :func:`inference_form`; InputError if there is none."""
    if name not in DTYPES:
        raise InputError(f'dtype must be one of {", ".join(DTYPES)}, got {name!r}')
    return DTYPES[name]


def _computing_in(dtype: torch.dtype, forward: Callable) -> Callable:

    @torch.no_grad()
    def computing(x: Tensor | list[Tensor]) -> Any:
        first = x if isinstance(x, Tensor) else x[0]
        with torch.autocast(first.device.type, enabled=False):
            out = forward(_each(x, lambda t: t.to(dtype)))
        # Operators of other libraries, such as MMCV's RoIAlign, take any map for contiguous.
        channels_last = not first.is_contiguous() and first.is_contiguous(memory_format=torch.channels_last)
        return _each(out, lambda t: memory_format.convert(t.to(first.dtype), channels_last))

    return computing


def _each(x: Tensor | list[Tensor] | tuple[Tensor, ...], function: Callable[[Tensor], Tensor]) -> Any:
    return function(x) if isinstance(x, Tensor) else type(x)(map(function, x))


@functools.cache
def _log_once(message: str) -> None:
    logging.getLogger('mmreplk').warning(message)
