"""Any known checkpoint, described, and as one of ours."""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from ..models import RepLKNet
from ..models.arch import Arch
from ..models.sources import Source, find_backbone, form, summarize
from ..models.weights import fit_weights
from .checkpoints import write_checkpoint


def describe(saved: Mapping) -> dict[str, str]:
    """Describes a checkpoint, as :func:`read_checkpoint` returns it, in a few lines, each with its title.

    Raises:
        InputError: If it holds no whole RepLKNet.
    """
    source = find_backbone(saved)
    arch, in_channels = check_whole(source)
    weights = source.weights if source.is_whole_model else source.backbone
    meta, dropped = plain_meta(saved.get('meta', {}))
    left_out = {k: v for k, v in source.left_out.items() if k not in weights and k != 'meta'}
    sizes = ', '.join(f'{name} {value}' for name, value in asdict(arch).items())
    return {
        'source': source.kind.removeprefix('an ').removeprefix('a '),
        'network': f'RepLKNet {arch.name or "of another architecture"}, {form(source.backbone)} form, '
                   f'{in_channels} input channels',
        'sizes': sizes,
        'backbone': _contents(source.backbone),
        'kept': 'the whole model, ' + _contents(weights) if source.is_whole_model else 'the backbone',
        'left out': summarize(left_out) or 'nothing',
        'meta': ', '.join(f'{k}={_short(v)}' for k, v in meta.items()) or 'nothing',
        **({'meta left out': ', '.join(dropped)} if dropped else {}),
    }  # yapf: disable


def convert(saved: Mapping, path: str | Path, force: bool = False) -> None:
    """Writes a checkpoint, as :func:`read_checkpoint` returns it, as one of ours: whole, or not at all.

    A segmentor or detector is kept whole, of a classifier the backbone alone, for ``init_cfg`` without a prefix.
    Optimizers and the like are left out, of the meta information what is no plain value.

    Args:
        saved: The checkpoint.
        path: The file to write: ``dict(meta=..., state_dict=...)``.
        force: Replace a file that is there.

    Raises:
        InputError: If it holds no whole RepLKNet, or the file is there.
    """
    source = find_backbone(saved)
    check_whole(source)
    weights = source.weights if source.is_whole_model else source.backbone
    write_checkpoint(dict(meta=plain_meta(saved.get('meta', {}))[0], state_dict=weights), path, force)


def check_whole(source: Source) -> tuple[Arch, int]:
    """Returns the architecture, and the channels of images, of the RepLKNet that ``source`` holds all tensors of."""
    arch = Arch.of_weights(source.backbone)
    first = source.backbone.get('stem.0.conv.weight')
    if arch is None or first is None:
        begin = ', '.join(map(repr, sorted(source.weights)[:3])) or 'no tensor at all'
        raise InputError(f'there is no RepLKNet in it; its tensors begin with {begin}')
    saved_form = form(source.backbone)
    with torch.device('meta'):
        backbone = RepLKNet(asdict(arch), in_channels=first.shape[1], deploy=saved_form in ('merged', 'folded'),
                            fuse_bn=saved_form == 'folded')  # yapf: disable
    fit_weights(backbone, source.backbone)
    return arch, first.shape[1]


def _contents(weights: Mapping[str, Tensor]) -> str:
    types = Counter(str(t.dtype).removeprefix('torch.') for t in weights.values() if t.is_floating_point())
    count = sum(t.numel() for t in weights.values()) / 1e6
    return f'{len(weights)} tensors of {count:.1f} million numbers, {", ".join(types)}'


def plain_meta(meta: object) -> tuple[dict, list[str]]:
    """Returns the entries of ``meta`` that any program can read, and the names of the others."""
    meta = meta if isinstance(meta, Mapping) else {}
    kept = {name: value for name, value in meta.items() if _is_plain(value)}
    return kept, [str(name) for name in meta if name not in kept]


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        return type(value) in (dict, OrderedDict) and all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, (list, tuple)):
        return type(value) in (list, tuple) and all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f'{text[:37]}...'
