"""Evaluation in the merged and folded form of a model, which stands beside the model and leaves no trace in it."""

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError
from .folding import biased, fold_bn
from .large_kernel import ReparamLargeKernelConv
from .replknet import RepLKNet

# How far the merged form may be from the model, in parts of the largest value: rounding through some 200 layers.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


class Merged(NamedTuple):
    """What :func:`reparameterized` found to do."""
    large_kernels: int
    batch_norms: int


@contextmanager
def reparameterized(model: nn.Module, fuse_bn: bool = True, check: bool = False) -> Iterator[Merged]:
    """Evaluates ``model`` merged, inside a ``with``, while its modules, parameters and ``state_dict()`` stay the same.

    Wherever something can be merged, a merged copy is made on entry, and is called instead of the module as long as
    that is in evaluation mode. The copies do not follow weights that change before the exit; hooks on modules inside a
    copied one are not called.

    Args:
        model: Any model, wrapped or not.
        fuse_bn: Also fold the BatchNorms of every :class:`RepLKNet`, and those that follow the convolution in MMCV's
            ``ConvModule``, of which heads and necks consist. Otherwise large kernels only are merged.
        check: Compare each copy with its module on the first input that it gets.

    Yields:
        How many large kernels were merged and how many BatchNorms folded.

    Raises:
        InputError: While the model runs, if ``check`` finds a difference that rounding does not explain.
    """
    pairs = [(module, _merge(module, fuse_bn)) for module in dict.fromkeys(_mergeable(model, fuse_bn))]
    with ExitStack() as stack:
        for module, twin in pairs:
            module.forward = _instead(module, twin, module.forward, check)
            stack.callback(delattr, module, 'forward')
        yield Merged(*(sum(count(module) - count(twin) for module, twin in pairs) for count in (_branched, _norms)))


def reparameterize(model: nn.Module, fuse_bn: bool = True) -> Merged:
    """Puts ``model``, in evaluation mode, into its merged form for good: what :func:`reparameterized` does for a while.

    Args:
        model: Any model, wrapped or not, that nobody trains on.
        fuse_bn: Also fold the BatchNorms that :func:`reparameterized` folds.

    Returns:
        How many large kernels were merged and how many BatchNorms folded.
    """
    before = _branched(model), _norms(model)
    for module in dict.fromkeys(_mergeable(model, fuse_bn)):
        _merge_in_place(module, fuse_bn)
    return Merged(before[0] - _branched(model), before[1] - _norms(model))


def _mergeable(module: nn.Module, fuse_bn: bool) -> Iterator[nn.Module]:
    """Yields the outermost modules that have a merged form."""
    is_whole = fuse_bn and (isinstance(module, RepLKNet) or _is_conv_bn(module))
    if is_whole or (isinstance(module, ReparamLargeKernelConv) and not module.deploy):
        # Not where the forward has been replaced before, by an enclosing reparameterized() for example.
        if 'forward' not in vars(module):
            yield module
        return
    for child in module.children():
        yield from _mergeable(child, fuse_bn)


def _is_conv_bn(module: nn.Module) -> bool:
    """Whether it is a plain convolution whose output goes into a BatchNorm."""
    return (isinstance(module, ConvModule) and module.order[:2] == ('conv', 'norm') and module.with_norm
            and isinstance(module.norm, _BatchNorm) and module.norm.track_running_stats
            and type(module.conv) is nn.Conv2d and not module.with_spectral_norm)  # yapf: disable


def _merge(module: nn.Module, fuse_bn: bool) -> nn.Module:
    twin = copy.deepcopy(module).eval().requires_grad_(False)
    _merge_in_place(twin, fuse_bn)
    return twin


def _merge_in_place(module: nn.Module, fuse_bn: bool) -> None:
    if isinstance(module, RepLKNet):
        module.reparameterize(fuse_bn)
    elif isinstance(module, ReparamLargeKernelConv):
        module.reparameterize()
    else:
        module.conv = biased(module.conv, *fold_bn(module.conv, module.norm))
        setattr(module, module.norm_name, nn.Identity())


def _instead(module: nn.Module, twin: nn.Module, original: Callable, check: bool) -> Callable:
    """Returns the ``forward`` that takes the place of ``original``, the one of ``module``."""
    is_unchecked = check

    def forward(*args, **kwargs) -> Any:
        nonlocal is_unchecked
        # ConvModule takes more than its input where it is to leave a part of itself out.
        if module.training or len(args) != 1 or kwargs:
            return original(*args, **kwargs)
        out = twin.forward(*args, **kwargs)
        if is_unchecked:
            is_unchecked = False
            _compare(module, out, original(*args, **kwargs))
        return out

    return forward


def _compare(module: nn.Module, merged: Tensor | tuple[Tensor, ...], expected: Tensor | tuple[Tensor, ...]) -> None:
    pairs = [(merged, expected)] if isinstance(merged, Tensor) else zip(merged, expected, strict=True)
    for i, (actual, wanted) in enumerate(pairs):
        error = ((actual.double() - wanted.double()).abs().max() / wanted.double().abs().max()).item()
        if not error <= TOLERANCE[wanted.dtype]:
            raise InputError(f'the merged form of {type(module).__name__} differs by {error:.1e} of the largest value '
                             f'of output {i}, more than the {TOLERANCE[wanted.dtype]:.0e} of rounding in '
                             f'{wanted.dtype}: evaluate with ReparamHook(fuse_bn=False), or without the hook')


def _branched(module: nn.Module) -> int:
    return sum(isinstance(m, ReparamLargeKernelConv) and not m.deploy for m in module.modules())


def _norms(module: nn.Module) -> int:
    """Counts the BatchNorms that are not part of a large kernel's branches."""
    if isinstance(module, ReparamLargeKernelConv):
        return 0
    return isinstance(module, _BatchNorm) + sum(map(_norms, module.children()))
