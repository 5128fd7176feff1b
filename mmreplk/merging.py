"""Evaluates a model in its merged and folded form, which is a copy and leaves no trace in the model."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .errors import InputError
from .layers.branches import MergeableConv
from .layers.folding import BatchNorm, fold
from .networks import LargeKernelBackbone

# How far the merged form may differ from the model, relative to the largest value: rounding in some 200 layers.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


# How to fold modules of other libraries, by their exact class: the forward of a subclass may differ.
FOLDERS: dict[type[nn.Module], 'Folder'] = {}


class Folder(NamedTuple):
    """``applies`` says whether a module can be folded, ``fold`` folds it in place."""
    applies: Callable[[nn.Module], bool]
    fold: Callable[[nn.Module], None]


class Merged(NamedTuple):
    """How many large kernels were merged, and how many BatchNorms folded."""
    large_kernels: int
    batch_norms: int


@contextmanager
def reparameterized(model: nn.Module, fuse_bn: bool = True, check: bool = False) -> Iterator[Merged]:
    """Evaluates ``model`` merged, inside a ``with``; its modules, parameters and ``state_dict()`` stay the same.

    On entry, each module that can be merged gets a merged copy, which is called instead of the module while that is in
    evaluation mode. The copies do not follow weights that change before the exit. Hooks on modules inside a copied one
    are not called. If other code has replaced the ``forward`` of a module, as activation checkpointing does, that is
    kept, and the modules below it are merged.

    Args:
        model: Any model, wrapped or not.
        fuse_bn: Also fold the BatchNorms of every large-kernel network and, where ``mmreplk.mm`` is imported, those
            that follow the convolution in MMCV's ``ConvModule``, the building block of heads and necks. Otherwise only
            large kernels are merged.
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
    """Merges ``model`` for good, in place, as :func:`reparameterized` does for a while; its evaluation stays the same.

    Args:
        model: Any model, wrapped or not, that will not be trained further.
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
    replaced = vars(module).get('forward')
    if replaced is not None and hasattr(replaced, 'merged'):
        return  # an enclosing reparameterized() has merged it already
    can_fold = fuse_bn and (isinstance(module, LargeKernelBackbone) or hasattr(module, 'fuse_bn') or _folder(module))
    # A copy would keep a replaced forward inside it, which is bound to the original and would run that.
    is_own = not any('forward' in vars(part) for part in module.modules())
    if is_own and (can_fold or (isinstance(module, MergeableConv) and not module.is_merged)):
        yield module
        return
    for child in module.children():
        yield from _mergeable(child, fuse_bn)


def _folder(module: nn.Module) -> Folder | None:
    folder = FOLDERS.get(type(module))
    return folder if folder is not None and folder.applies(module) else None


def _merge(module: nn.Module, fuse_bn: bool) -> nn.Module:
    # Hooks are not copied: they would be called twice, and all that they hold would be copied too.
    names = ('_forward_hooks', '_forward_pre_hooks', '_backward_hooks', '_backward_pre_hooks')
    without = {id(hooks): OrderedDict() for part in module.modules() for hooks in map(vars(part).get, names)}
    twin = copy.deepcopy(module, without).eval().requires_grad_(False)
    _merge_in_place(twin, fuse_bn)
    return twin


def _merge_in_place(module: nn.Module, fuse_bn: bool) -> None:
    folder = _folder(module)
    if isinstance(module, LargeKernelBackbone):
        module.reparameterize(fuse_bn)
    elif folder is not None:
        folder.fold(module)
    else:
        for part in list(module.modules()):
            if isinstance(part, MergeableConv):
                part.reparameterize()
        if fuse_bn:
            fold(module)


def _instead(module: nn.Module, twin: nn.Module, original: Callable, check: bool) -> Callable:
    """Returns the ``forward`` that replaces ``original``, the one of ``module``."""
    is_unchecked = check

    def forward(*args, **kwargs) -> Any:
        nonlocal is_unchecked
        # ConvModule takes further arguments that make it skip parts of itself.
        if module.training or len(args) != 1 or kwargs:
            return original(*args, **kwargs)
        out = twin.forward(*args, **kwargs)
        if is_unchecked:
            is_unchecked = False
            _compare(module, out, original(*args, **kwargs))
        return out

    forward.merged = twin
    return forward


def _compare(module: nn.Module, merged: Tensor | tuple[Tensor, ...], expected: Tensor | tuple[Tensor, ...]) -> None:
    pairs = [(merged, expected)] if isinstance(merged, Tensor) else zip(merged, expected, strict=True)
    for i, (actual, wanted) in enumerate(pairs):
        difference, largest = ((t.double().abs().max().item()) for t in (actual.double() - wanted.double(), wanted))
        error = difference / largest if largest else difference
        if not error <= TOLERANCE[wanted.dtype]:
            raise InputError(f'the merged form of {type(module).__name__} differs by {error:.1e} of the largest value '
                             f'of output {i}, more than the {TOLERANCE[wanted.dtype]:.0e} of rounding in '
                             f'{wanted.dtype}: evaluate with ReparamHook(fuse_bn=False), or without the hook')


def _branched(module: nn.Module) -> int:
    return sum(isinstance(m, MergeableConv) and not m.is_merged for m in module.modules())


def _norms(module: nn.Module) -> int:
    """Counts the BatchNorms that are not part of a large kernel's branches."""
    if isinstance(module, MergeableConv):
        return 0
    return isinstance(module, BatchNorm) + sum(map(_norms, module.children()))
