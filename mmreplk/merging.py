"""Evaluates a model in its merged and folded form, which is a copy and leaves no trace in the model."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .errors import InputError
from .layers.branches import MergeableConv
from .layers.folding import BatchNorm, fold
from .layers.packed import packed
from .networks import LargeKernelBackbone
from .packing import inference_form

# How far the merged form may differ from the model, relative to the largest value: rounding in some 200 layers.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


# How to fold modules of other libraries, by their exact class, or its full name: the forward of a subclass may differ.
FOLDERS: dict[type[nn.Module] | str, 'Folder'] = {}


class Folder(NamedTuple):
    """``applies`` says whether a module can be folded, ``fold`` folds it in place, ``pack`` returns its packed form."""
    applies: Callable[[nn.Module], bool]
    fold: Callable[[nn.Module], None]
    pack: Callable[[nn.Module], nn.Module]


class Merged(NamedTuple):
    """How many large kernels were merged, and how many BatchNorms folded."""
    large_kernels: int
    batch_norms: int


@contextmanager
def reparameterized(model: nn.Module, fuse_bn: bool = True, check: bool = False, pack: bool = False,
                    dtype: torch.dtype | None = None) -> Iterator[Merged]:
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
        pack: Also bring copies of folded networks on x86 CPUs into the form that is fastest there; see
            :mod:`mmreplk.layers.packed`. A packed copy is not called where gradients are wanted, or under autocast.
        dtype: What the copies of folded networks compute in; their inputs and results are cast. None for their own.

    Yields:
        How many large kernels were merged and how many BatchNorms folded.

    Raises:
        InputError: If ``pack`` or ``dtype`` is given without ``fuse_bn``; while the model runs, if ``check`` finds a
            difference that rounding does not explain.
    """
    _check(fuse_bn, pack, dtype)
    pairs = [(module, _merge(module, fuse_bn)) for module in dict.fromkeys(_mergeable(model, fuse_bn))]
    merged = Merged(*(sum(count(module) - count(twin) for module, twin in pairs) for count in (_branched, _norms)))
    with ExitStack() as stack:
        for module, twin in pairs:
            twin = inference_form(twin, _packer(module, pack), dtype)
            module.forward = _instead(module, twin, module.forward, check, dtype, pack or dtype is not None)
            stack.callback(delattr, module, 'forward')
        yield merged


def reparameterize(model: nn.Module, fuse_bn: bool = True, pack: bool = False,
                   dtype: torch.dtype | None = None) -> Merged:
    """Merges ``model`` for good, in place, as :func:`reparameterized` does for a while; its evaluation stays the same.

    Args:
        model: Any model, wrapped or not, that will not be trained further.
        fuse_bn: Also fold the BatchNorms that :func:`reparameterized` folds.
        pack: Also bring folded networks into the form for inference, as :func:`reparameterized` does; they must then
            be in evaluation mode, and have neither gradients nor a state dict any more.
        dtype: What folded networks compute in; their inputs and results are cast. None for their own.

    Returns:
        How many large kernels were merged and how many BatchNorms folded.
    """
    _check(fuse_bn, pack, dtype)
    before = _branched(model), _norms(model)
    packers = {module: _packer(module, pack) for module in _mergeable(model, fuse_bn)}
    for module in packers:
        _merge_in_place(module, fuse_bn)
    merged = Merged(before[0] - _branched(model), before[1] - _norms(model))
    for module, packer in packers.items():
        _replace(model, module, inference_form(module, packer, dtype))
    return merged


def _check(fuse_bn: bool, pack: bool, dtype: torch.dtype | None) -> None:
    if (pack or dtype) and not fuse_bn:
        raise InputError(f'pack and dtype need fuse_bn=True, got pack={pack} and dtype={dtype}')
    if dtype not in (None, torch.float32, torch.bfloat16, torch.float16):
        raise InputError(f'dtype must be float32, bfloat16 or float16, got {dtype}')


def _replace(model: nn.Module, module: nn.Module, other: nn.Module) -> None:
    """Puts ``other`` in the place of ``module``, wherever in ``model`` that is."""
    for parent in list(model.modules()) if other is not module else ():
        for name, child in list(parent.named_children()):
            if child is module:
                setattr(parent, name, other)


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
    kind = type(module)
    folder = FOLDERS.get(kind) or FOLDERS.get(f'{kind.__module__}.{kind.__qualname__}')
    return folder if folder is not None and folder.applies(module) else None


def _packer(module: nn.Module, pack: bool) -> Callable[[nn.Module], nn.Module] | None:
    folder = _folder(module)
    return None if not pack else packed if folder is None else folder.pack


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


def _instead(module: nn.Module, twin: nn.Module, original: Callable, check: bool, dtype: torch.dtype | None,
             is_for_inference: bool) -> Callable:
    """Returns the ``forward`` that replaces ``original``, the one of ``module``."""
    is_unchecked = check

    def forward(*args, **kwargs) -> Any:
        nonlocal is_unchecked
        # ConvModule takes further arguments that make it skip parts of itself.
        if module.training or len(args) != 1 or kwargs:
            return original(*args, **kwargs)
        if is_for_inference and not _is_inference(args[0]):
            return original(*args)
        out = twin.forward(*args, **kwargs)
        if is_unchecked:
            is_unchecked = False
            _compare(module, out, original(*args, **kwargs), dtype)
        return out

    forward.merged = twin
    return forward


def _is_inference(x: Tensor | Sequence[Tensor]) -> bool:
    """Whether neither gradients nor autocast are wanted."""
    inputs = [x] if isinstance(x, Tensor) else x
    wants_gradient = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    return not wants_gradient and not torch.is_autocast_enabled(inputs[0].device.type)


def _compare(module: nn.Module, merged: Tensor | tuple[Tensor, ...], expected: Tensor | tuple[Tensor, ...],
             dtype: torch.dtype | None) -> None:
    pairs = [(merged, expected)] if isinstance(merged, Tensor) else zip(merged, expected, strict=True)
    for i, (actual, wanted) in enumerate(pairs):
        difference, largest = ((t.double().abs().max().item()) for t in (actual.double() - wanted.double(), wanted))
        error = difference / largest if largest else difference
        precision = dtype or wanted.dtype
        if not error <= TOLERANCE[precision]:
            raise InputError(f'the merged form of {type(module).__name__} differs by {error:.1e} of the largest value '
                             f'of output {i}, more than the {TOLERANCE[precision]:.0e} of rounding in '
                             f'{precision}: evaluate with ReparamHook(fuse_bn=False), or without the hook')


def _branched(module: nn.Module) -> int:
    return sum(isinstance(m, MergeableConv) and not m.is_merged for m in module.modules())


def _norms(module: nn.Module) -> int:
    """Counts the BatchNorms that are not part of a large kernel's branches."""
    if isinstance(module, MergeableConv):
        return 0
    return isinstance(module, BatchNorm) + sum(map(_norms, module.children()))
