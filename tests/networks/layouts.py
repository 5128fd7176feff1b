"""One set of weights as each of those who save RepLKNets lays it out."""

from argparse import Namespace

import torch
from torch import Tensor


def official_classification(backbone: dict[str, Tensor]) -> dict:
    """As the official ``utils.save_model`` does: the classifier's norm and head beside the backbone's tensors."""
    model = {**backbone, **norm('norm', backbone), 'head.weight': torch.ones(7, width(backbone)),
             'head.bias': torch.ones(7)}
    return dict(model=model, optimizer=dict(state={}), epoch=299, scaler={}, args=Namespace(lr=4e-3, model='31B'))


def official_bare(backbone: dict[str, Tensor]) -> dict:
    return official_classification(backbone)['model']


def mmcv_whole_model(backbone: dict[str, Tensor]) -> dict:
    """As MMSegmentation 0.x and MMDetection 2.x do."""
    model = {f'backbone.{name}': tensor for name, tensor in backbone.items()}
    model |= {'decode_head.conv_seg.weight': torch.ones(3, 8, 1, 1), 'auxiliary_head.conv_seg.bias': torch.ones(3)}
    meta = dict(epoch=1, iter=160000, mmcv_version='1.6.0', mmseg_version='0.27.0', CLASSES=('wall', 'sky'))
    return dict(meta=meta, state_dict=model, optimizer=dict(state={}))


def mmpretrain(backbone: dict[str, Tensor]) -> dict:
    """As mmpretrain's ``replknet_to_mmpretrain.py`` does: the classifier's norm becomes one of the last stage."""
    last = max(int(name.split('.')[1]) for name in backbone if name.startswith('stages.'))
    model = backbone | norm(f'stages.{last}.norm', backbone)
    model = {f'backbone.{name}': tensor for name, tensor in model.items()}
    return model | {'head.fc.weight': torch.ones(7, width(backbone)), 'head.fc.bias': torch.ones(7)}


def ours_backbone(backbone: dict[str, Tensor]) -> dict:
    return dict(state_dict=dict(backbone))


def ours_whole_model(backbone: dict[str, Tensor]) -> dict:
    """As MMEngine does."""
    saved = mmcv_whole_model(backbone)
    return dict(saved, meta=dict(epoch=1, iter=4, mmengine_version='0.10.7'), message_hub={}, param_schedulers=[])


LAYOUTS = [official_classification, official_bare, mmcv_whole_model, mmpretrain, ours_backbone, ours_whole_model]


def width(backbone: dict[str, Tensor]) -> int:
    return max(tensor.shape[0] for name, tensor in backbone.items() if name.endswith('prelkb_bn.weight'))


def norm(name: str, backbone: dict[str, Tensor]) -> dict[str, Tensor]:
    """A BatchNorm of its own kind, which must land nowhere."""
    tensors = {f'{name}.{part}': torch.full((width(backbone), ), 123.)
               for part in ('weight', 'bias', 'running_mean', 'running_var')}
    return tensors | {f'{name}.num_batches_tracked': torch.tensor(123)}
