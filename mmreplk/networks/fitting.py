"""Which of the given weights a network loads, whichever code saved them, and which it refuses."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..layers.branches import MergeableConv
from .sources import find_backbone, summarize

_ORIGIN = 'or take the training checkpoint that they were made from'
# How to describe weights of each form, and what to load them into.
_FORMS = {
    'training': ('in training form', '{}(deploy=False), then call its reparameterize(), or convert the checkpoint'),
    'merged': ('merged', f'{{}}(deploy=True), {_ORIGIN}'),
    'folded': ('merged and folded', f'{{}}(deploy=True, fuse_bn=True), {_ORIGIN}'),
}


@dataclass(frozen=True)
class Fit:
    """What happens to each tensor of a backbone, and to each of the given weights.

    Attributes:
        taken: The tensors to load.
        kept: Why each other tensor of the backbone stays as it was, by name.
        resized: The old and new size of each large kernel that was padded or cropped, by name.
        unused: Why each of the weights is not taken, by name.
    """

    taken: dict[str, Tensor]
    kept: dict[str, str]
    resized: dict[str, str]
    unused: dict[str, str]


def take_weights(backbone: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Fits weights of any known source to a network and logs what it did: a pre-hook of ``load_state_dict``.

    PyTorch calls it however weights are loaded: by ``load_state_dict``, ``init_cfg``, ``load_from`` or ``resume``.

    Args:
        backbone: The network that is about to be loaded.
        state_dict: What is being loaded; its entries below ``prefix`` are replaced by those of the backbone.
        prefix: The beginning of the names of the backbone's tensors, ``'backbone.'`` or ``''``.

    Raises:
        InputError: If the weights do not fit, see :func:`fit_weights`.
    """
    source = find_backbone({k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)},
                           type(backbone))
    fit = fit_weights(backbone, source.backbone)
    own = backbone.state_dict()
    for name in [name for name in state_dict if name.startswith(prefix)]:
        del state_dict[name]
    # Tensors that stay as they were are included, so that a strict load does not miss them.
    state_dict.update({prefix + name: fit.taken.get(name, tensor) for name, tensor in own.items()})
    report = [f'{type(backbone).__name__}: {len(fit.taken)} of its {len(own)} tensors loaded from {source.kind}']
    for title, reasons in (('resized', fit.resized), ('kept as they were', fit.kept),
                           ('left out', source.left_out | fit.unused)):
        if reasons:
            report.append(f'{title}: {summarize(reasons)}')
    logging.getLogger('mmreplk').info('; '.join(report) + '.')


def fit_weights(backbone: nn.Module, weights: Mapping[str, Tensor]) -> Fit:
    """Compares ``weights`` with what ``backbone`` needs; only names, shapes and sizes matter.

    Some tensors may be missing: counters of batches, which old PyTorch does not have, and the norms of features if all
    of them are, because pre-training has none. Others may be left over: stages after the last output, and norms of
    features that are not returned. ``backbone.resize_kernels`` makes this pad or crop large kernels,
    ``backbone.allow_mismatch`` excuses tensors by the beginnings of their names.

    Raises:
        InputError: If other tensors are missing, superfluous, or of another shape, or the weights are of another form.
    """
    own, kind = backbone.state_dict(), type(backbone).__name__
    _refuse_other_form(backbone, weights, own)
    large = _large_filters(backbone)
    taken, resized = _resize(weights, own, large) if backbone.resize_kernels else (dict(weights), {})
    excused = tuple(backbone.allow_mismatch)
    superfluous = [name for name in taken if name not in own]
    absent = [name for name in own if name not in taken]
    whole = backbone.whole() if superfluous or absent else backbone
    unused = dict.fromkeys(superfluous, f'not in this {kind}, which allow_mismatch permits')
    unused |= {name: 'not used by any output' for name in superfluous if name in whole.state_dict()}
    is_normed = any(name in taken for name in whole.norm_names())
    feature_norms = {} if is_normed else backbone.norm_names()
    kept, missing, reshaped = {}, [], []
    for name, tensor in own.items():
        if name in taken and taken[name].shape == tensor.shape:
            continue
        if name in taken and not name.startswith(excused):
            reshaped.append(name)
        elif name in taken:
            kept[name] = 'of another shape, which allow_mismatch permits'
        elif name in feature_norms:
            kept[name] = 'a norm of features, which the weights do not have'
        elif name.endswith('num_batches_tracked'):
            kept[name] = 'a counter that the weights do not have'
        elif name.startswith(excused):
            kept[name] = 'not among the weights, which allow_mismatch permits'
        else:
            missing.append(name)
    superfluous = [name for name in superfluous if name not in whole.state_dict() and not name.startswith(excused)]
    if missing or reshaped or superfluous:
        raise InputError(_misfit(backbone, weights, missing, reshaped, superfluous, large))
    return Fit({name: taken[name] for name in own if name in taken and name not in kept}, kept, resized, unused)


def _large_filters(backbone: nn.Module) -> list[str]:
    """Returns the names of the filters that set the sizes of large kernels."""
    return [f'{name}.{path}.weight' for name, module in backbone.named_modules()
            if isinstance(module, MergeableConv) for path in module.large_filters()]


def _resize(weights: Mapping, own: Mapping, large: list[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns ``weights`` with large kernels of the sizes in ``own``, and what was done to each."""
    taken, resized = dict(weights), {}
    for name in large:
        if name not in weights or weights[name].shape[:2] != own[name].shape[:2]:
            continue
        given, wanted = tuple(weights[name].shape[2:]), tuple(own[name].shape[2:])
        if given != wanted:
            rows, columns = ((w - g) // 2 for w, g in zip(wanted, given, strict=True))
            taken[name] = F.pad(weights[name], [columns, columns, rows, rows])  # a negative margin crops
            verbs = {'cropped' if margin < 0 else 'zero-padded' for margin in (rows, columns) if margin}
            resized[name] = f'{given[0]}x{given[1]} {" and ".join(sorted(verbs))} to {wanted[0]}x{wanted[1]}'
    return taken, resized


def _refuse_other_form(backbone: nn.Module, weights: Mapping, own: Mapping) -> None:
    given, wanted = backbone.form_of(weights), backbone.form_of(own)
    if given != wanted and {given, wanted} <= set(_FORMS):
        what, where = _FORMS[given]
        raise InputError(f'these weights are {what}: load them into {where.format(type(backbone).__name__)}')


def _misfit(backbone: nn.Module, weights: Mapping, missing: list, reshaped: list, superfluous: list,
            large: list[str]) -> str:
    own, kind = backbone.state_dict(), type(backbone).__name__
    reasons = []
    if missing:
        reasons.append(f'{len(missing)} of its {len(own)} tensors are missing, the first {missing[0]!r}')
    if reshaped:
        name = reshaped[0]
        reasons.append(f'{name!r} has shape {tuple(weights[name].shape)}, it needs {tuple(own[name].shape)}')
    if superfluous:
        reasons.append(f'{len(superfluous)} of the weights are not in it, the first {superfluous[0]!r}')
    text = f'these weights do not fit this {kind}: {"; ".join(reasons)}'
    theirs = backbone.Arch.of_weights(weights)
    if theirs is None:
        return f'{text}. They begin with {", ".join(map(repr, sorted(weights)[:3])) or "no tensor at all"}'
    differences = theirs.differences(backbone.arch)
    if differences:
        text += f'. They are of a {kind} with {differences}'
    if reshaped and not missing and not superfluous and set(reshaped) <= set(large):
        text += f'. {kind}(resize_kernels=True) zero-pads or crops the large kernels'
    return text
