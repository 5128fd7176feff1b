"""Automatic mixed precision without a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from ...errors import InputError


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(AmpOptimWrapper):
    """MMEngine's AmpOptimWrapper for CPUs, on which the original refuses to run; float16 works too.

    Args:
        dtype: What convolutions and matrix products compute in: ``'bfloat16'`` or ``'float16'``.
        loss_scale: ``'dynamic'``, a constant, or the arguments of ``torch.amp.GradScaler``; bfloat16 has the range of
            float32 and is not scaled.
        kwargs: Those of :class:`mmengine.optim.OptimWrapper`.

    Raises:
        InputError: If ``dtype`` or ``loss_scale`` is anything else.
    """

    def __init__(self, dtype: str = 'bfloat16', loss_scale: str | float | dict = 'dynamic', **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        if dtype not in ('bfloat16', 'float16'):
            raise InputError(f"dtype must be 'bfloat16' or 'float16', got {dtype!r}")
        if loss_scale != 'dynamic' and not isinstance(loss_scale, (int, float, dict)):
            raise InputError(f"loss_scale must be 'dynamic', a number or a dict, got {loss_scale!r}")
        self.cast_dtype = getattr(torch, dtype)
        is_constant = isinstance(loss_scale, (int, float))
        self._scale_update_param = float(loss_scale) if is_constant else None
        options = dict(init_scale=float(loss_scale)) if is_constant else loss_scale if loss_scale != 'dynamic' else {}
        self.loss_scaler = torch.amp.GradScaler('cpu', **dict(options, enabled=dtype == 'float16'))

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Casts as autocast does, and keeps gradients from being synchronized while they accumulate."""
        with OptimWrapper.optim_context(self, model), torch.autocast('cpu', dtype=self.cast_dtype):
            yield
