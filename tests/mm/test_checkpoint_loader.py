import dataclasses
import io
import os
import subprocess
from argparse import Namespace

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

from mmreplk import InputError, UniRepLKNet
from mmreplk.networks.classifier import Classifier
from mmreplk.weights import PUBLISHED
from tests.conftest import assert_same_bits, randomize
from tests.warm import python

NAME = 'unireplknet-a_in1k'


@pytest.fixture
def weights(server, torch_cache, monkeypatch):
    """The weights that lie on this machine's server in the place of the published ones."""
    model = randomize(Classifier(UniRepLKNet('A', out_indices=[3])))
    file = io.BytesIO()
    torch.save(dict(model=model.state_dict()), file)
    server.files['/a.pth'] = data = file.getvalue()
    entry = dataclasses.replace(PUBLISHED[NAME], url=f'{server.url}/a.pth', size=len(data), sha256=None)
    monkeypatch.setitem(PUBLISHED, NAME, entry)
    return model.state_dict()


def test_init_cfg_takes_a_name(weights, torch_cache):
    backbone = MODELS.build(
        dict(type='UniRepLKNet', arch='A', init_cfg=dict(type='Pretrained', checkpoint=NAME)))
    backbone.init_weights()
    own = {name: tensor for name, tensor in backbone.state_dict().items() if name in weights}
    assert_same_bits(own, {name: weights[name] for name in own})
    assert len(own) == len(weights) - 4
    assert (torch_cache / 'a.pth').is_file()


class Model(BaseModel):

    def __init__(self):
        super().__init__()
        self.backbone = MODELS.build(dict(type='UniRepLKNet', arch='A'))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.backbone(inputs)


def test_load_from_takes_a_name(server, weights, tmp_path):
    whole = Model()
    file = io.BytesIO()
    torch.save(dict(state_dict=randomize(whole).state_dict(), meta=dict(iter=1)), file)
    server.files['/a.pth'] = file.getvalue()
    PUBLISHED[NAME] = dataclasses.replace(PUBLISHED[NAME], size=None)
    runner = Runner(Model(), str(tmp_path), load_from=NAME, experiment_name='by_name')
    runner.load_or_resume()
    assert_same_bits(runner.model.state_dict(), whole.state_dict())


def test_load_checkpoint_takes_a_name(weights):
    model = torch.nn.Conv2d(1, 1, 1)
    assert_same_bits(load_checkpoint(model, NAME)['model'], weights)


@pytest.mark.parametrize('place', ['file', 'address'])
def test_types_stay_allowed_after_others_allowed_them_once(place, server, torch_cache, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    file = io.BytesIO()
    torch.save(dict(args=Namespace(lr=1), mean=np.float64(3)), file)
    (tmp_path / 'official.pth').write_bytes(file.getvalue())
    server.files['/official.pth'] = file.getvalue()
    with torch.serialization.safe_globals([Namespace, np.dtype]):  # as timm reads one, and MMEngine's onedl fork
        pass
    path = tmp_path / 'official.pth' if place == 'file' else f'{server.url}/official.pth'
    assert CheckpointLoader.load_checkpoint(str(path), map_location='cpu') == dict(args=Namespace(lr=1), mean=3)


def test_files_that_begin_like_names(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir('replknet-31b')
    for path in ('replknet-31b/last.pth', 'unireplknet-own.pth', 'slak-t'):
        torch.save(dict(found=path), path)
        assert CheckpointLoader.load_checkpoint(path, map_location='cpu') == dict(found=path)
    with pytest.raises(FileNotFoundError, match='slak-t.pth can not be found'):
        CheckpointLoader.load_checkpoint('slak-t.pth')


def test_misspelt(weights):
    with pytest.raises(InputError, match=f"no published weights 'unireplknet-a_1k', the nearest name is '{NAME}'"):
        CheckpointLoader.load_checkpoint('unireplknet-a_1k')


CONFIG = '''
import sys
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner
with open(sys.argv[1], 'w') as file:
    file.write("""
custom_imports = dict(imports=['mmreplk'])
backbone = dict(type='UniRepLKNet', arch='A', init_cfg=dict(type='Pretrained', checkpoint='unireplknet-a_1k'))
""")
cfg = Config.fromfile(sys.argv[1])
MODELS.build(cfg.backbone).init_weights()
'''


def test_a_config_of_others_needs_custom_imports_only(tmp_path):
    result = subprocess.run([python('torch'), '-c', CONFIG, tmp_path / 'config.py'], capture_output=True, text=True)
    assert f"no published weights 'unireplknet-a_1k', the nearest name is '{NAME}'" in result.stderr
