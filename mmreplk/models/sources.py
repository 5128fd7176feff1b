"""Whose checkpoint it is, and where in it the backbone lies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

# Under these keys lies what a model's tensors are wrapped in, by MMEngine and MMCV and by the official code.
_WRAPPINGS = ('state_dict', 'model', 'module')
_FEATURE_NORM = re.compile(r'stages\.(\d+)\.norm\.')


@dataclass(frozen=True)
class Source:
    """The backbone in what somebody saved.

    Attributes:
        kind: Whose checkpoint it is, in words that follow 'from'.
        weights: Every tensor of the model, by the name that it was saved under.
        prefix: What the backbone's names begin with there, ``'backbone.'`` or ``''``.
        backbone: The backbone's tensors by the names that they have in ``RepLKNet``.
        left_out: Why each other entry is no part of the backbone, by its name in the checkpoint.
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


def find_backbone(saved: Mapping) -> Source:
    """Finds the backbone's tensors in a checkpoint, or in a state dict, of any of the known layouts.

    - Official classification: ``stem.*``, ``stages.*``, ..., ``norm.*``, ``head.*``, bare or in ``model``.
    - Official and our segmentors and detectors: ``backbone.*`` and their heads, in ``state_dict``.
    - mmpretrain: ``backbone.*`` and ``head.fc.*``, the classifier's norm as a norm of the last stage.
    - Ours: a backbone alone, or a whole model, in training or merged form.

    What is none of these comes back under the names that it has, with nothing left out.
    """
    weights, left_out = unwrap(saved)
    prefix = 'backbone.' if any(name.startswith(('backbone.stem.', 'backbone.stages.')) for name in weights) else ''
    backbone = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    norms = [prefix + name for name in backbone if name.startswith('norm.')]
    norms += [prefix + name for name in _pooled_norm(backbone)]
    classifier = [name for name in weights if name.startswith((f'{prefix}head.', 'head.fc.'))]
    others = [name for name in weights if not name.startswith((prefix, 'head.fc.'))]
    if not prefix:
        kind = _MMPRETRAIN if _pooled_norm(backbone) else _CLASSIFICATION if norms or classifier else _BACKBONE
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


def form(names: Mapping) -> str:
    """Returns whose names these are, of the ``'training'``, ``'merged'`` or ``'folded'`` form, or ``'unknown'``."""
    if 'stem.0.conv.bias' in names:
        return 'folded'
    if any('.lkb_reparam.' in name for name in names):
        return 'merged'
    return 'training' if any('.lkb_origin.' in name for name in names) else 'unknown'


def normed_stages(names: Mapping) -> set[int]:
    """Returns the stages whose features a norm of their own normalizes."""
    return {int(match[1]) for match in map(_FEATURE_NORM.match, names) if match}


def summarize(reasons: Mapping[str, str]) -> str:
    """Returns ``reasons``, a dict from a name to its reason, as one phrase that names the first of each reason."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return ', '.join(f'{own[0]}{f" and {len(own) - 1} more" if len(own) > 1 else ""} ({reason})'
                     for reason, own in names.items())


def _pooled_norm(backbone: Mapping) -> list[str]:
    """Returns the names under which mmpretrain keeps the classifier's norm.

    A network that normalizes its features has a norm on every stage. One on the last stage of several alone is what
    the classifier normalizes with before it pools.
    """
    stages = {int(name.split('.')[1]) for name in backbone if re.match(r'stages\.\d+\.', name)}
    if len(stages) > 1 and normed_stages(backbone) == {max(stages)}:
        return [name for name in backbone if _FEATURE_NORM.match(name)]
    return []


def _whole_kind(saved: Mapping) -> str:
    meta = saved.get('meta')
    if not isinstance(meta, Mapping):
        return _WHOLE
    if 'mmengine_version' in meta:
        return _MMENGINE
    return _MMCV if {'mmcv_version', 'mmseg_version', 'mmdet_version'} & set(meta) else _WHOLE
