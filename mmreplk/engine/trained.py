"""Whole trained models, from checkpoints of whichever form."""

from collections.abc import Mapping

from mmengine.config import Config
from torch import nn

from ..errors import InputError
from ..models.sources import find_backbone, form, unwrap


def adapt_backbone(cfg: Config, saved: Mapping) -> None:
    """Makes the RepLKNet that ``cfg`` describes the form, of training, merged or folded, that ``saved`` is in."""
    backbone = cfg.model.get('backbone') or {}
    saved_form = form(find_backbone(saved).backbone)
    if backbone.get('type') == 'RepLKNet' and saved_form != 'unknown':
        backbone.update(deploy=saved_form != 'training', fuse_bn=saved_form == 'folded')


def load_whole(model: nn.Module, saved: Mapping, source: str) -> None:
    """Loads a checkpoint into a segmentor or detector, every tensor of it.

    Args:
        model: The model.
        saved: The checkpoint, as :func:`read_checkpoint` returns it.
        source: What to call it in messages, its path.

    Raises:
        InputError: If a tensor of the model is missing in it or has another shape there.
    """
    try:
        missing = model.load_state_dict(unwrap(saved)[0], strict=False).missing_keys
    except InputError as error:  # RepLKNet's own sentence
        raise InputError(f'checkpoint {source!r}: {error}') from error
    except RuntimeError as error:
        first = next((line for line in str(error).splitlines() if 'size mismatch' in line), str(error))
        raise InputError(f'checkpoint {source!r} is of another model: {first.strip()}') from error
    missing = [name for name in missing if not name.endswith('num_batches_tracked')]
    if missing:
        raise InputError(f'checkpoint {source!r} is of another model: it lacks {missing[0]!r}'
                         + (f' and {len(missing) - 1} more' if len(missing) > 1 else ''))
