"""The fast depthwise convolution for models that were not written for it."""

import sys
from collections.abc import Callable

import torch
from torch import nn

from .errors import InputError
from .layers import LargeKernelConv2d
from .ops import may_gain


class AcceleratedConv2d(nn.Conv2d):
    """What :func:`accelerate` makes of a depthwise ``nn.Conv2d``.

    Only the class differs. Its only base is ``nn.Conv2d``, by whose name MMEngine's initializers recognize the layer.
    """

    forward = LargeKernelConv2d.forward


# The class that replaces each class. All of them compute exactly what nn.Conv2d does; mmreplk.mm adds MMCV's.
ACCELERATED: dict[type[nn.Conv2d], type[nn.Conv2d]] = {nn.Conv2d: AcceleratedConv2d}


def accelerate(model: nn.Module) -> list[str]:
    """Makes the depthwise convolutions of any model run on this package's operator, in place.

    Each such ``nn.Conv2d`` becomes an :class:`AcceleratedConv2d`, a subclass that computes the same. Nothing else
    changes: the module stays the same object, with its parameters, buffers, name and hooks, so optimizers, state dicts,
    averaged copies and wrappers stay valid. Every call takes the faster of the two implementations, by the sizes, dtype
    and device of the input. Left alone are layers that would be faster on no input, subclasses of ``nn.Conv2d`` (except
    MMCV's ``Conv2d``) and layers whose ``forward`` has been replaced.

    The limits of :func:`mmreplk.ops.depthwise_conv2d` then hold for the model: the fast path has no second derivative.
    Tools that look for the exact class, such as ``torch.jit.script``, need the model restored.

    Args:
        model: Any model, wrapped or not.

    Returns:
        The names of the changed layers, as in ``model.named_modules()``; empty at a second call.

    Raises:
        InputError: If ``model`` is not an ``nn.Module``.
    """
    return _change_classes(model, ACCELERATED, _may_gain)


def restore(model: nn.Module) -> list[str]:
    """Undoes :func:`accelerate`, also in a copy of an accelerated model.

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
    if changed and 'torch._dynamo' in sys.modules:  # which in PyTorch 2.11 does not see that a class has changed
        torch.compiler.reset()
    return [name for name, _ in changed]


def _may_gain(module: nn.Conv2d) -> bool:
    if 'forward' in vars(module):
        return False
    is_depthwise = module.groups == module.in_channels == module.out_channels and module.padding_mode == 'zeros'
    padding = 0 if module.padding == 'valid' else module.padding
    return is_depthwise and may_gain(module.kernel_size, module.stride, padding, module.dilation)
