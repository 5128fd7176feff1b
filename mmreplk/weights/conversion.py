"""Describes any known checkpoint, converts it to our format, merges it for deployment, or loads it whole."""

import functools
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..networks import NETWORKS, LargeKernelBackbone
from ..networks.fitting import fit_weights
from ..networks.sources import Source, find_backbone, summarize, unwrap
from .files import write_checkpoint


def describe(saved: Mapping) -> dict[str, str]:
    """Describes a checkpoint, as :func:`read_checkpoint` returns it, in a few lines, each with its title.

    Raises:
        InputError: If it does not hold a whole large-kernel network.
    """
    source, network = find_network(saved)
    weights = source.weights if source.is_whole_model else source.backbone
    meta, dropped = plain_meta(saved.get('meta', {}))
    left_out = {k: v for k, v in source.left_out.items() if k not in weights and k != 'meta'}
    sizes = ', '.join(f'{name} {value}' for name, value in asdict(network.arch).items())
    return {
        'source': source.kind.removeprefix('an ').removeprefix('a '),
        'network': f'{type(network).__name__} {network.arch.name or "of another architecture"}, '
                   f'{network.form_of(source.backbone)} form, {network.in_channels} input channels',
        'sizes': sizes,
        'backbone': _contents(source.backbone),
        'kept': 'the whole model, ' + _contents(weights) if source.is_whole_model else 'the backbone',
        'left out': summarize(left_out) or 'nothing',
        'meta': ', '.join(f'{k}={_short(v)}' for k, v in meta.items()) or 'nothing',
        **({'meta left out': ', '.join(dropped)} if dropped else {}),
    }


def convert(saved: Mapping, path: str | Path, force: bool = False) -> None:
    """Writes a checkpoint, as :func:`read_checkpoint` returns it, in our format: the whole file or none.

    A segmentor or detector is kept whole; of a classifier only the backbone is kept, for ``init_cfg`` without a prefix.
    Optimizers and the like are left out, and so is meta information that is not a plain value.

    Args:
        saved: The checkpoint.
        path: The file to write, with ``dict(meta=..., state_dict=...)`` in it.
        force: Replace an existing file.

    Raises:
        InputError: If it does not hold a whole large-kernel network, or the file exists and ``force`` is not set.
    """
    source, _ = find_network(saved)
    weights = source.weights if source.is_whole_model else source.backbone
    write_checkpoint(dict(meta=plain_meta(saved.get('meta', {}))[0], state_dict=weights), path, force)


def reparameterize_checkpoint(saved: Mapping, fuse_bn: bool = False, ema: bool = False, eps: float = 1e-5,
                              half: bool = False) -> dict:
    """Returns the deploy form of a checkpoint of a backbone, segmentor or detector of any known source.

    Heads, necks and the meta information are kept; optimizers and the like are left out. The backbone loads into
    the same network with ``deploy=True``, or ``deploy=True, fuse_bn=True``.

    Args:
        saved: The checkpoint, as :func:`read_checkpoint` returns it.
        fuse_bn: Also fold everything affine in the backbone; BatchNorms of heads stay, because a config needs their
            names.
        ema: Take the averaged weights. MMEngine's ``EMAHook`` saves them as the ``state_dict`` itself, the official
            code saves them beside it as ``model_ema``.
        eps: The epsilon of the BatchNorms in the network that was trained.
        half: Store all weights in float16, which takes half the space; a model in float32 loads them too.

    Returns:
        ``dict(meta=..., state_dict=...)``.

    Raises:
        InputError: If it does not hold a whole large-kernel network, nothing is left to merge, ``ema`` is set and
            there are no averaged weights, or ``half`` is set and a weight is too large for float16.
    """
    source, shape = find_network(_averaged(saved) if ema else saved)
    given = shape.form_of(source.backbone)
    if given == 'folded' or (given == 'merged' and not fuse_bn):
        raise InputError(f'it is {given} already' + ('' if given == 'folded' else ', and fuse_bn is not set'))
    norm = functools.partial(nn.BatchNorm2d, eps=eps)
    backbone = type(shape)(
        shape.arch, in_channels=shape.in_channels, out_indices=shape.out_indices, norm=norm, deploy=given == 'merged')
    dtype = next(tensor.dtype for tensor in source.backbone.values() if tensor.is_floating_point())
    backbone.to(dtype).load_state_dict(source.backbone)
    backbone.reparameterize(fuse_bn)
    prefix = source.prefix if source.is_whole_model else ''
    lacking = set(backbone.norm_names()) - set(source.backbone)
    weights = {prefix + name: tensor for name, tensor in backbone.state_dict().items() if name not in lacking}
    if source.is_whole_model:
        weights |= {name: tensor for name, tensor in source.weights.items() if not name.startswith(prefix)}
    if half:
        weights = {name: _halved(name, tensor) for name, tensor in weights.items()}
    meta = plain_meta(saved.get('meta', {}))[0]
    return dict(meta=meta | dict(reparameterized=backbone.form_of(backbone.state_dict())), state_dict=weights)


def _halved(name: str, tensor: Tensor) -> Tensor:
    halved = tensor.half() if tensor.is_floating_point() else tensor
    if not halved.isfinite().all():
        raise InputError(f'{name!r} holds {tensor.abs().max():.3g}, and float16 ends at 65504')
    return halved


def find_network(saved: Mapping) -> tuple[Source, LargeKernelBackbone]:
    """Finds the large-kernel network in a checkpoint and builds it, without weights, in the form that it has there.

    Raises:
        InputError: If it holds none of :data:`NETWORKS`, or only a part of one.
    """
    source = find_backbone(saved)
    for network in NETWORKS.values():
        own = find_backbone(saved, network)
        arch = network.Arch.of_weights(own.backbone)
        if arch is None:
            continue
        form = network.form_of(own.backbone)
        options = dict(deploy=form in ('merged', 'folded'), fuse_bn=form == 'folded')
        with torch.device('meta'):
            shape = network(arch, **options)
            first = own.backbone.get(next(iter(shape.state_dict())))
            normed = {stage for name, stage in shape.norm_names().items() if name in own.backbone}
            shape = network(
                arch,
                in_channels=first.shape[1] if first is not None and first.ndim == 4 else 3,
                out_indices=sorted(normed | {shape.num_stages - 1}) if normed else None,
                **options)
        fit_weights(shape, own.backbone)
        return own, shape
    begin = ', '.join(map(repr, sorted(source.weights)[:3])) or 'no tensor at all'
    raise InputError(f'it holds none of {", ".join(NETWORKS)}; its tensors begin with {begin}')


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


def _averaged(saved: Mapping) -> Mapping:
    if isinstance(saved.get('model_ema'), Mapping):
        return {'model': saved['model_ema']}
    if 'ema_state_dict' not in saved:
        raise InputError('it has no averaged weights, neither ema_state_dict (MMEngine) nor model_ema (official code)')
    return saved


def load_whole(model: nn.Module, saved: Mapping, source: str) -> None:
    """Loads a checkpoint into a segmentor or detector; it must have every tensor of the model.

    Args:
        model: The model.
        saved: The checkpoint, as :func:`read_checkpoint` returns it.
        source: Its path, for messages.

    Raises:
        InputError: If a tensor of the model is missing in it or has another shape there.
    """
    try:
        missing = model.load_state_dict(unwrap(saved)[0], strict=False).missing_keys
    except InputError as error:  # the network's own message
        raise InputError(f'checkpoint {source!r}: {error}') from error
    except RuntimeError as error:
        first = next((line for line in str(error).splitlines() if 'size mismatch' in line), str(error))
        raise InputError(f'checkpoint {source!r} is of another model: {first.strip()}') from error
    missing = [name for name in missing if not name.endswith('num_batches_tracked')]
    if missing:
        raise InputError(f'checkpoint {source!r} is of another model: it lacks {missing[0]!r}'
                         + (f' and {len(missing) - 1} more' if len(missing) > 1 else ''))
