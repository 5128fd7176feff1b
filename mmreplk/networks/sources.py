"""Finds out which code saved a checkpoint, and where in it the backbone is."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

# The keys under which MMEngine, MMCV and the official code save a model's tensors.
_WRAPPINGS = ('state_dict', 'model', 'module')


@dataclass(frozen=True)
class Source:
    """A checkpoint and the backbone in it.

    Attributes:
        kind: What checkpoint it is, in words that follow 'from'.
        weights: Every tensor of the model, by the name that it was saved under.
        prefix: The beginning of the backbone's names there, ``'backbone.'`` or ``''``.
        backbone: The backbone's tensors by the names that they have in the network.
        left_out: Why each other entry is not part of the backbone, by its name in the checkpoint.
    """

    kind: str
    weights: dict[str, Tensor]
    prefix: str
    backbone: dict[str, Tensor]
    left_out: dict[str, str]

    @property
    def is_whole_model(self) -> bool:
        """Whether it is a segmentor or a detector, whose heads are worth keeping."""
        return self.kind in (_MMCV, _MMENGINE, _WHOLE)


_CLASSIFICATION = 'an official classification checkpoint'
_MMPRETRAIN = "mmpretrain's conversion of a classification checkpoint"
_MMCV = 'a whole model of MMSegmentation 0.x or MMDetection 2.x'
_MMENGINE = 'a whole model saved by MMEngine'
_WHOLE = 'a whole model'
_BACKBONE = 'a backbone'


def find_backbone(saved: Mapping, network: type | None = None) -> Source:
    """Finds the backbone's tensors in a checkpoint, or in a state dict, of any of the known layouts.

    - Official classification: the network's names, ``norm.*`` and ``head.*``, bare or in ``model``.
    - Official and our segmentors and detectors: ``backbone.*`` and their heads, in ``state_dict``.
    - mmpretrain: ``backbone.*`` and ``head.fc.*``, the classifier's norm as a norm of the last stage.
    - Ours: a backbone alone, or a whole model, in any form.

    Tensors in any other layout are returned under their own names, with nothing left out.

    Args:
        saved: The checkpoint or state dict.
        network: The class of the network to look for, which knows the classifier's norm; None if it is unknown.
    """
    weights, left_out = unwrap(saved)
    prefix = 'backbone.' if any(name.startswith('backbone.') for name in weights) else ''
    backbone = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    bare = [name for name in backbone if name.startswith('norm.')]
    found = bare if network is None else network.classifier_norm(backbone)
    is_mmpretrain, norms = len(found) > len(bare), [prefix + name for name in found]
    classifier = [name for name in weights if name.startswith((f'{prefix}head.', 'head.fc.'))]
    others = [name for name in weights if not name.startswith((prefix, 'head.fc.'))]
    if not prefix:
        kind = _MMPRETRAIN if is_mmpretrain else _CLASSIFICATION if norms or classifier else _BACKBONE
    else:
        kind = _MMPRETRAIN if norms or classifier else _whole_kind(saved)
    for names, reason in ((norms, "the classifier's norm"), (classifier, 'the classifier'),
                          (others, 'no part of the backbone')):
        left_out.update(dict.fromkeys(names, reason))
    backbone = {name: tensor for name, tensor in backbone.items() if prefix + name not in left_out}
    return Source(kind, weights, prefix, backbone, left_out)


def unwrap(saved: Mapping) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors of a checkpoint by name, and why each of its other entries is left out."""
    for key in _WRAPPINGS:
        if isinstance(saved.get(key), Mapping):
            weights, left_out = unwrap(saved[key])
            return weights, left_out | {str(name): 'no weights of the model' for name in saved if name != key}
    weights = {name: value for name, value in saved.items() if isinstance(name, str) and isinstance(value, Tensor)}
    left_out = {str(name): 'not a tensor' for name in saved if name not in weights}
    if weights and all(name.startswith('module.') for name in weights):
        weights = {name.removeprefix('module.'): tensor for name, tensor in weights.items()}
    return weights, left_out


def summarize(reasons: Mapping[str, str]) -> str:
    """Returns ``reasons``, a dict from names to reasons, as one phrase: the first name of each reason, and a count."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return ', '.join(f'{own[0]}{f" and {len(own) - 1} more" if len(own) > 1 else ""} ({reason})'
                     for reason, own in names.items())


def _whole_kind(saved: Mapping) -> str:
    meta = saved.get('meta')
    if not isinstance(meta, Mapping):
        return _WHOLE
    if 'mmengine_version' in meta:
        return _MMENGINE
    return _MMCV if {'mmcv_version', 'mmseg_version', 'mmdet_version'} & set(meta) else _WHOLE
