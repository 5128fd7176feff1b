"""Where in a network the numbers end."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn


def first_non_finite(model: nn.Module, run: Callable[[], object]) -> tuple[str, torch.dtype] | None:
    """Finds the first layer that hands out infinity or NaN.

    Args:
        model: Whose layers, the modules without children, are watched.
        run: Runs ``model`` once; no gradients are recorded.

    Returns:
        The layer's name and the dtype of its output; None if all outputs are finite.
    """
    found = []

    def check(name: str, module: nn.Module, inputs: tuple, output: object) -> None:
        if not found and isinstance(output, Tensor) and not output.isfinite().all():
            found.append((name, output.dtype))

    layers = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    handles = [module.register_forward_hook(functools.partial(check, name)) for name, module in layers]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None
