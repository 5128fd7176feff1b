"""Mask2Former and DINO on large-kernel networks, at the real depth of the network and a fraction of its width."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from mmreplk import reparameterized
from tests.configs.narrowing import config_of, inputs, narrow
from tests.conftest import randomize

NAMES = ('mask2former_replknet31b_ade20k', 'mask2former_unireplknet_l_ade20k_in22k_640', 'dino_replknet31b_coco',
         'dino_unireplknet_l_coco_in22k')


@pytest.mark.parametrize('name', NAMES)
def test_it_trains_with_layer_decay_and_is_evaluated_merged(name):
    torch.manual_seed(0)
    cfg = config_of(name)
    cfg.model.backbone.drop_path_rate = 0.  # so that every block takes part in the one step
    depth = network_depth(cfg)
    model = MODELS.build(narrow(cfg))
    model.init_weights()  # of parameters that the heads leave unset until then
    randomize(model.backbone)
    blocks = [len(list(model.backbone.blocks(stage))) for stage in range(4)]
    assert blocks == depth
    for key, parameter in model.backbone.named_parameters():
        if key.endswith('.gamma'):
            torch.nn.init.normal_(parameter, std=.1)  # at 1e-6, no block would have a say

    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    rate, last = cfg.optim_wrapper.paramwise_cfg.decay_rate, model.backbone.num_layers
    rates = sorted({group['lr'] for group in optimizer.optimizer.param_groups})
    assert rates == pytest.approx([1e-4 * rate**(last + 1 - layer) for layer in range(last + 2)])
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    loss, _ = model.train().parse_losses(model(*inputs(cfg), mode='loss'))
    optimizer.update_params(loss)
    assert loss.isfinite()
    # A bias before a normalization has no effect, and of three squeezed channels all may be 0; all else learns.
    same = [key for key, parameter in model.backbone.named_parameters() if parameter.ndim > 1
            and '.se.' not in key and torch.equal(parameter, before[f'backbone.{key}'])]
    assert same == []

    images, _ = inputs(cfg)
    with torch.no_grad():
        trained = outputs(model.eval(), images, cfg)
        with reparameterized(model, fuse_bn=True) as merged:
            assert merged.large_kernels > 0
            evaluated = outputs(model, images, cfg)
    assert trained.std() > 1e-3
    torch.testing.assert_close(evaluated, trained, rtol=1e-3, atol=1e-4)


def network_depth(cfg):
    return dict(RepLKNet=[4, 4, 36, 4], UniRepLKNet=[3, 3, 27, 3])[cfg.model.backbone.type]


def outputs(model, images, cfg):
    """Scores of classes at each pixel, or of the detections in descending order."""
    samples = inputs(cfg)[1]  # predictions are put into them
    results = model(images, samples, mode='predict')
    if cfg.default_scope == 'mmseg':
        return torch.stack([result.seg_logits.data for result in results])
    return torch.stack([result.pred_instances.scores for result in results])
