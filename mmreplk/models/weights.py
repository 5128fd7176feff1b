"""What a RepLKNet takes of the weights that it is given, whoever saved them, and what it refuses."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn

from ..errors import InputError
from .arch import Arch
from .sources import find_backbone, form, normed_stages, summarize

_LARGE_KERNEL = re.compile(r'\.large_kernel\.(lkb_origin\.conv|lkb_reparam)\.weight$')
_ORIGIN = 'or take the training checkpoint that they were made from'
# How weights of each form are recognized, and where they go.
_FORMS = {
    'training': ('in training form (they hold lkb_origin)',
                 'RepLKNet(deploy=False), then call its reparameterize(), or use '
                 'tools/model_converters/reparameterize.py'),
    'merged': ('merged (they hold lkb_reparam)', f'RepLKNet(deploy=True), {_ORIGIN}'),
    'folded': ('merged and folded (stem.0 has a bias)', f'RepLKNet(deploy=True, fuse_bn=True), {_ORIGIN}'),
}  # yapf: disable


@dataclass(frozen=True)
class Fit:
    """What becomes of each tensor of a backbone, and of the weights that it is given.

    Attributes:
        taken: The tensors to load.
        kept: Why each other tensor of the backbone stays as it was, by name.
        resized: From which to which size large kernels were padded or cropped, by name.
        unused: Why each of the weights is not taken, by name.
    """

    taken: dict[str, Tensor]
    kept: dict[str, str]
    resized: dict[str, str]
    unused: dict[str, str]


def take_weights(backbone: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Gives a RepLKNet the weights of any known source, and logs what it did: a pre-hook of ``load_state_dict``.

    PyTorch calls it whichever way weights come: ``load_state_dict``, ``init_cfg``, ``load_from`` or ``resume``.

    Args:
        backbone: The RepLKNet that is about to be loaded.
        state_dict: What is being loaded; its entries below ``prefix`` are replaced by those of the backbone.
        prefix: What the names of the backbone's tensors begin with, ``'backbone.'`` or ``''``.

    Raises:
        InputError: If the weights leave a tensor of the backbone as it was, or have one that it does not.
    """
    source = find_backbone({k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)})
    fit = fit_weights(backbone, source.backbone)
    own = backbone.state_dict()
    for name in [name for name in state_dict if name.startswith(prefix)]:
        del state_dict[name]
    # What stays as it was is given to itself, so that a strict load does not miss it.
    state_dict.update({prefix + name: fit.taken.get(name, tensor) for name, tensor in own.items()})
    report = [f'RepLKNet: {len(fit.taken)} of its {len(own)} tensors loaded from {source.kind}']
    for title, reasons in (('resized', fit.resized), ('kept as they were', fit.kept),
                           ('left out', source.left_out | fit.unused)):
        if reasons:
            report.append(f'{title}: {summarize(reasons)}')
    print_log('; '.join(report) + '.', logger='current')


def fit_weights(backbone: nn.Module, weights: Mapping[str, Tensor]) -> Fit:
    """Compares ``weights`` with what ``backbone``, a RepLKNet, needs; only names, shapes and sizes matter.

    Counters of batches, and norms of features that no weights of another stage have either, may be missing: old
    PyTorch and pre-training do not have them. ``backbone.resize_kernels`` has large kernels padded or cropped,
    ``backbone.allow_mismatch`` excuses tensors whose names begin so.

    Raises:
        InputError: If tensors are missing, superfluous, or of another shape.
    """
    own = backbone.state_dict()
    _refuse_other_form(weights, own)
    taken, resized = _resize(weights, own) if backbone.resize_kernels else (dict(weights), {})
    excused = tuple(backbone.allow_mismatch)
    normed = normed_stages(weights)
    kept, missing, reshaped = {}, [], []
    for name, tensor in own.items():
        is_feature_norm = re.match(r'stages\.(\d+)\.norm\.', name)
        if name in taken and taken[name].shape == tensor.shape:
            continue
        if name in taken and not name.startswith(excused):
            reshaped.append(name)
        elif name in taken:
            kept[name] = 'of another shape, which allow_mismatch permits'
        elif is_feature_norm and int(is_feature_norm[1]) not in normed | set(backbone.out_indices if normed else ()):
            kept[name] = 'a norm of features, which the weights do not have'
        elif name.endswith('num_batches_tracked'):
            kept[name] = 'a counter that the weights do not have'
        elif name.startswith(excused):
            kept[name] = 'not among the weights, which allow_mismatch permits'
        else:
            missing.append(name)
    unused = {name: 'not in this RepLKNet, which allow_mismatch permits' for name in taken if name not in own}
    superfluous = [name for name in unused if not name.startswith(excused)]
    if missing or reshaped or superfluous:
        raise InputError(_misfit(backbone, weights, missing, reshaped, superfluous))
    return Fit({name: taken[name] for name in own if name in taken and name not in kept}, kept, resized, unused)


def _resize(weights: Mapping, own: Mapping) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns ``weights`` with large kernels of the sizes in ``own``, and what was done to each."""
    taken, resized = dict(weights), {}
    for name in filter(_LARGE_KERNEL.search, own):
        if name in weights and weights[name].shape[:2] == own[name].shape[:2]:
            given, wanted = weights[name].shape[-1], own[name].shape[-1]
            if given != wanted:
                taken[name] = F.pad(weights[name], [(wanted - given) // 2] * 4)  # a negative margin crops
                verb = 'cropped' if given > wanted else 'zero-padded'
                resized[name] = f'{given}x{given} {verb} to {wanted}x{wanted}'
    return taken, resized


def _refuse_other_form(weights: Mapping, own: Mapping) -> None:
    given, wanted = form(weights), form(own)
    if given != wanted and {given, wanted} <= set(_FORMS):
        what, where = _FORMS[given]
        raise InputError(f'these weights are {what}: load them into {where}')


def _misfit(backbone: nn.Module, weights: Mapping, missing: list, reshaped: list, superfluous: list) -> str:
    own = backbone.state_dict()
    reasons = []
    if missing:
        reasons.append(f'{len(missing)} of its {len(own)} tensors are not among them, the first {missing[0]!r}')
    if reshaped:
        name = reshaped[0]
        reasons.append(f'{name!r} has shape {tuple(weights[name].shape)}, it needs {tuple(own[name].shape)}')
    if superfluous:
        reasons.append(f'{len(superfluous)} of them are not in it, the first {superfluous[0]!r}')
    text = f'these weights do not fit this RepLKNet: {"; ".join(reasons)}'
    theirs = Arch.of_weights(weights)
    if theirs is None:
        return f'{text}. They begin with {", ".join(map(repr, sorted(weights)[:3])) or "no tensor at all"}'
    differences = theirs.differences(backbone.arch)
    if differences:
        text += f'. They are of a RepLKNet with {differences}'
    if reshaped and not missing and not superfluous and all(map(_LARGE_KERNEL.search, reshaped)):
        text += '. RepLKNet(resize_kernels=True) zero-pads or crops the large kernels'
    return text
