"""What builds on timm has the networks."""

import importlib

import torch
from mmengine.registry import DefaultScope


def test_segmentation_models_pytorch(timm):
    smp = importlib.import_module('segmentation_models_pytorch')
    model = smp.Unet('tu-unireplknet_a', encoder_weights=None, classes=3, in_channels=3)
    out = model(torch.randn(2, 3, 64, 64))
    assert out.shape == (2, 3, 64, 64)
    out.square().mean().backward()
    assert all(parameter.grad is not None for name, parameter in model.encoder.named_parameters() if 'gamma' in name)


def test_timm_backbone_of_mmsegmentation(timm, monkeypatch):
    importlib.import_module('mmseg.models')
    module = importlib.import_module('mmseg.models.backbones.timm_backbone')
    monkeypatch.setattr(module, 'timm', timm)  # where another test imported it, it has looked in vain
    registry = importlib.import_module('mmseg.registry').MODELS
    with DefaultScope.overwrite_default_scope('mmseg'):
        backbone = registry.build(
            dict(type='TIMMBackbone', model_name='unireplknet_a', pretrained=False, out_indices=(1, 3)))
    outs = backbone(torch.randn(1, 3, 64, 64))
    assert [out.shape[1] for out in outs] == [80, 320]
