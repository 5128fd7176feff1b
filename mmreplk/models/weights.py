"""What a state dict must hold before a RepLKNet takes it."""

import re

from torch import Tensor, nn

from ..errors import InputError

# Not in every checkpoint: counters that old ones lack, feature norms that pre-training does not have.
_OPTIONAL = re.compile(r'num_batches_tracked$|^stages\.\d+\.norm\.')


def check_weights(backbone: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_) -> None:
    """Refuses a state dict that leaves a tensor of the backbone as it was: a pre-hook of ``load_state_dict``.

    PyTorch calls it whichever way weights come: ``load_state_dict``, ``init_cfg``, ``load_from`` or ``resume``.

    Args:
        backbone: The RepLKNet that is about to be loaded.
        state_dict: Everything that is being loaded, heads included.
        prefix: What the names of the backbone's tensors begin with, ``'backbone.'`` or ``''``.

    Raises:
        InputError: If a tensor is missing or has another shape.
    """
    own = {prefix + name: t.shape for name, t in backbone.state_dict().items() if not _OPTIONAL.search(name)}
    missing = [name for name in own if name not in state_dict]
    if missing:
        given, wanted = _form(state_dict), _form(own)
        if (given, wanted) == ('merged', 'training'):
            raise InputError('these weights are merged (they hold lkb_reparam): load them into RepLKNet(deploy=True), '
                             'or take the training checkpoint that they were made from')
        if (given, wanted) == ('training', 'merged'):
            raise InputError('these weights are in training form (they hold lkb_origin): load them into '
                             'RepLKNet(deploy=False), then call its reparameterize()')
        begin = ', '.join(map(repr, sorted(state_dict)[:3])) or 'no tensor at all'
        raise InputError(f'these weights are not of this RepLKNet: {len(missing)} of its {len(own)} tensors are not '
                         f'among them, the first {missing[0]!r}; they begin with {begin}')
    for name, shape in own.items():
        if state_dict[name].shape != shape:
            raise InputError(f'these weights are of another RepLKNet: {name!r} has shape '
                             f'{tuple(state_dict[name].shape)}, this one needs {tuple(shape)}')


def _form(names: dict) -> str:
    if any('.lkb_reparam.' in name for name in names):
        return 'merged'
    return 'training' if any('.lkb_origin.' in name for name in names) else 'unknown'
