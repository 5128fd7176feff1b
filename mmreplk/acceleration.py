"""The fast depthwise convolution for models that were not written for it."""

from collections.abc import Callable

from torch import nn

from .errors import InputError
from .layers import LargeKernelConv2d
from .ops import may_gain


class AcceleratedConv2d(nn.Conv2d):
    """What :func:`accelerate` makes of a depthwise ``nn.Conv2d``.

    Only the class differs: ``nn.Conv2d`` is its one base, by whose name initializers of MMEngine know a layer.
    """

    forward = LargeKernelConv2d.forward


# What becomes of which class: those that compute just what nn.Conv2d does, by themselves or by libraries that say so.
ACCELERATED: dict[type[nn.Conv2d], type[nn.Conv2d]] = {nn.Conv2d: AcceleratedConv2d}


def accelerate(model: nn.Module) -> list[str]:
    """Gives the depthwise convolutions of any model the operator of this package, in place.

    Each ``nn.Conv2d`` in question becomes an :class:`AcceleratedConv2d`, which is one, and computes the same. Nothing
    else changes: the module stays the same object, with its parameters, buffers, name and hooks, so optimizers, state
    dicts, averaged copies and wrappers hold before and after. Which way is faster is chosen at every call, by the
    sizes, dtype and device of the input; layers that no input would make faster are left alone, and so are subclasses
    of ``nn.Conv2d`` (but for MMCV's of that name) and layers whose ``forward`` somebody has replaced.

    What is true of :func:`mmreplk.ops.depthwise_conv2d` becomes true of the model: the fast path has no second
    derivative. Tools that look for the exact class, ``torch.jit.script`` among them, want the model restored.

    Args:
        model: Any model, wrapped or not.

    Returns:
        The names of the layers that were changed, as of ``model.named_modules()``: none at a second call.

    Raises:
        InputError: If ``model`` is not an ``nn.Module``.
    """
    return _change_classes(model, ACCELERATED, _may_gain)


def restore(model: nn.Module) -> list[str]:
    """Undoes :func:`accelerate`, whoever called it on whatever ``model`` is a copy of.

    Returns:
        The names of the layers that were changed back.

    Raises:
        InputError: If ``model`` is not an ``nn.Module``.
    """
    return _change_classes(model, {fast: plain for plain, fast in ACCELERATED.items()}, lambda module: True)


def _change_classes(model: nn.Module, classes: dict[type, type], applies: Callable[[nn.Conv2d], bool]) -> list[str]:
    if not isinstance(model, nn.Module):
        raise InputError(f'model must be a torch.nn.Module, got {type(model).__name__}')
    changed = [(name, module) for name, module in model.named_modules() if type(module) in classes and applies(module)]
    for _, module in changed:
        module.__class__ = classes[type(module)]
    return [name for name, _ in changed]


def _may_gain(module: nn.Conv2d) -> bool:
    if 'forward' in vars(module):
        return False
    is_depthwise = module.groups == module.in_channels == module.out_channels and module.padding_mode == 'zeros'
    padding = 0 if module.padding == 'valid' else module.padding
    return is_depthwise and may_gain(module.kernel_size, module.stride, padding, module.dilation)
