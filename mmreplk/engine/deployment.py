"""Training checkpoints as deploy checkpoints: merged and, if asked, folded."""

from collections.abc import Mapping
from dataclasses import asdict

from ..errors import InputError
from ..models import RepLKNet
from ..models.sources import find_backbone, form
from .conversion import check_whole, plain_meta


def reparameterize_checkpoint(saved: Mapping, fuse_bn: bool = False, ema: bool = False, eps: float = 1e-5) -> dict:
    """Returns the deploy form of a checkpoint of a backbone, segmentor or detector of any known source.

    Heads, necks and the meta information are kept, optimizers and the like left out. The backbone loads into
    ``RepLKNet(deploy=True)``, or ``RepLKNet(deploy=True, fuse_bn=True)``.

    Args:
        saved: The checkpoint, as :func:`read_checkpoint` returns it.
        fuse_bn: Also fold all other BatchNorms of the backbone; those of heads stay, whose own names a config needs.
        ema: Take the averaged weights. MMEngine's ``EMAHook`` saves them as the ``state_dict`` itself, the official
            code beside it as ``model_ema``.
        eps: What BatchNorm adds to the variance, in the network that was trained.

    Returns:
        ``dict(meta=..., state_dict=...)``.

    Raises:
        InputError: If there is no whole RepLKNet in it, nothing left to merge, or no averaged weights where asked.
    """
    source = find_backbone(_averaged(saved) if ema else saved)
    arch, in_channels = check_whole(source)
    given = form(source.backbone)
    if given == 'folded' or (given == 'merged' and not fuse_bn):
        raise InputError(f'it is {given} already' + ('' if given == 'folded' else ', and fuse_bn is not asked for'))
    backbone = RepLKNet(asdict(arch), in_channels, range(len(arch.layers)), norm_cfg=dict(type='BN', eps=eps),
                        deploy=given == 'merged')  # yapf: disable
    backbone.to(source.backbone['stem.0.conv.weight'].dtype).load_state_dict(source.backbone)
    backbone.reparameterize(fuse_bn)
    prefix = source.prefix if source.is_whole_model else ''
    weights = {prefix + name: tensor for name, tensor in backbone.state_dict().items()}
    if source.is_whole_model:
        weights |= {name: tensor for name, tensor in source.weights.items() if not name.startswith(prefix)}
    meta = plain_meta(saved.get('meta', {}))[0]
    return dict(meta=meta | dict(reparameterized=form(backbone.state_dict())), state_dict=weights)


def _averaged(saved: Mapping) -> Mapping:
    if isinstance(saved.get('model_ema'), Mapping):
        return {'model': saved['model_ema']}
    if 'ema_state_dict' not in saved:
        raise InputError('it has no averaged weights, neither ema_state_dict (MMEngine) nor model_ema (official code)')
    return saved
