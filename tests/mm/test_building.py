import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmreplk import InputError
from mmreplk.mm.building import build_backbone
from mmreplk.mm.config import load_config
from tests.conftest import assert_same_bits, copied_state, randomize
from tests.networks.layouts import LAYOUTS

ARCH = dict(large_kernel_sizes=[7, 5], layers=[1, 1], channels=[4, 8], small_kernel=3)
TINY = dict(type='RepLKNet', arch=ARCH, out_indices=[0, 1])
PREPROCESSOR = dict(type='ImgDataPreprocessor', mean=[0., 0., 0.], std=[1., 1., 1.])


def config(**model):
    model = dict(dict(backbone=TINY, data_preprocessor=PREPROCESSOR), **model)
    return Config(dict(default_scope='mmengine', model=model))


@pytest.mark.parametrize('layout', LAYOUTS, ids=lambda layout: layout.__name__)
def test_weights_of_every_source(layout, tmp_path):
    expected = copied_state(randomize(MODELS.build(TINY)))
    torch.save(layout(expected), tmp_path / 'a.pth')
    backbone = build_backbone(config(), str(tmp_path / 'a.pth')).module
    assert_same_bits(backbone.state_dict(), expected)
    assert not any(m.training for m in backbone.modules()) and not any(p.requires_grad for p in backbone.parameters())


def test_weights_are_random_without_a_checkpoint(capfd):
    pretrained = dict(TINY, init_cfg=dict(type='Pretrained', checkpoint='/nowhere.pth'))
    torch.manual_seed(5)
    actual = build_backbone(config(backbone=pretrained)).module.state_dict()
    torch.manual_seed(5)
    assert_same_bits(actual, MODELS.build(TINY).state_dict())
    constant = dict(TINY, init_cfg=[dict(type='Constant', layer='Conv2d', val=0.25)])
    assert (build_backbone(config(backbone=constant)).module.stem[0].conv.weight == 0.25).all()
    assert capfd.readouterr() == ('', ''), 'MMEngine does not log every parameter'


@pytest.mark.parametrize(('scope', 'kind', 'preprocessor'), [
    ('mmseg', 'EncoderDecoder', 'SegDataPreProcessor'), ('mmdet', 'RetinaNet', 'DetDataPreprocessor')])
def test_other_backbones_and_files_with_a_model_alone(scope, kind, preprocessor, tmp_path):
    resnet = dict(type='ResNet', depth=18, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18'))
    model = dict(type=kind, data_preprocessor=dict(type=preprocessor), backbone=resnet)
    (tmp_path / 'model.py').write_text(f'model = {model}')
    cfg = load_config(str(tmp_path / 'model.py'))
    module = build_backbone(cfg).module
    assert type(module).__module__.startswith(scope)
    classifier = copied_state(randomize(module)) | {'fc.weight': torch.ones(9, 512), 'fc.bias': torch.ones(9)}
    torch.save(classifier, tmp_path / 'classifier.pth')
    loaded = build_backbone(cfg, str(tmp_path / 'classifier.pth')).module.state_dict()
    assert_same_bits(loaded, {name: tensor for name, tensor in classifier.items() if not name.startswith('fc.')})

    deeper = {f'backbone.{name}': tensor for name, tensor in loaded.items()}
    deeper['backbone.layer3.2.conv1.weight'] = torch.ones(256, 256, 3, 3)
    torch.save(dict(state_dict=deeper), tmp_path / 'deeper.pth')
    with pytest.raises(InputError, match=r'deeper.pth. does not fit ResNet: .* has 1 that are not in it \(layer3.2'):
        build_backbone(cfg, str(tmp_path / 'deeper.pth'))
    wider = dict(loaded, **{'conv1.weight': torch.ones(32, 3, 7, 7)})
    torch.save(wider, tmp_path / 'wider.pth')
    with pytest.raises(InputError, match=r'wider.pth.*conv1.weight'):
        build_backbone(cfg, str(tmp_path / 'wider.pth'))


def test_what_cannot_be_built(tmp_path):
    with pytest.raises(InputError, match=r"a model with a backbone and a data_preprocessor.*\['backbone'"):
        build_backbone(config(data_preprocessor=None))
    with pytest.raises(InputError, match='must describe a model with a backbone'):
        build_backbone(Config(dict(train_cfg=None)))
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / 'linear.pth')
    with pytest.raises(InputError, match=r'checkpoint .*linear.pth.: these weights do not fit this RepLKNet'):
        build_backbone(config(), str(tmp_path / 'linear.pth'))
    init_default_scope('mmseg')
