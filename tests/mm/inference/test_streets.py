"""The model that comes with the package, on ten pictures that it was not trained on."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmreplk import InputError
from mmreplk.benchmarks import count_pixels, mean_iou
from mmreplk.mm.inference import Predictor
from mmreplk.weights import OWN, STREETS, local_file, read_checkpoint
from tests.tools.processes import ROOT, tool

PICTURES = sorted((ROOT / 'tests/data/camvid/img_dir/test').iterdir())
MIOU = 52.7  # of the ten together, in percent


@pytest.fixture(scope='module')
def predicted():
    predictor = Predictor()
    return [predictor([predictor.read(path)])[0].labels for path in PICTURES]


def test_ten_pictures(predicted):
    truth = [cv2.imread(str(ROOT / f'tests/data/camvid/ann_dir/test/{path.stem}.png'), 0) for path in PICTURES]
    counts = sum(count_pixels(*pair, 11) for pair in zip(truth, predicted, strict=True))
    assert len(PICTURES) == 10 and abs(mean_iou(counts, range(11)) - MIOU) < .3


def test_the_file():
    assert local_file(STREETS.name) == STREETS.file and STREETS.file.stat().st_size < 6e6
    saved = read_checkpoint(STREETS.name)
    assert {tensor.dtype for tensor in saved['state_dict'].values()} <= {torch.float16, torch.int64}
    assert saved['meta']['reparameterized'] == 'folded'
    note = (STREETS.file.parent / 'README.txt').read_text()
    assert all(word in note for own in OWN.values() for word in (own.name, own.licence, own.result))


def test_one_command(predicted, tmp_path):
    result = tool('predict.py', PICTURES[0], '--out', tmp_path)
    assert result.returncode == 0, result.stderr
    assert np.array_equal(np.asarray(Image.open(tmp_path / f'raw/{PICTURES[0].stem}.png')), predicted[0])
    assert (tmp_path / f'overlays/{PICTURES[0].stem}.jpg').is_file()
    lone = tool('predict.py', PICTURES[0], '--checkpoint', STREETS.name, '--out', tmp_path / 'other')
    assert lone.returncode == 2 and f'--checkpoint {STREETS.name} needs --model, the config' in lone.stderr


def test_a_photograph_of_another_size(predicted):
    image = cv2.resize(cv2.imread(str(PICTURES[0])), (1920, 1440), interpolation=cv2.INTER_CUBIC)
    labels = Predictor()([image])[0].labels
    assert labels.shape == (1440, 1920) and (labels[2::4, 2::4] == predicted[0]).mean() > .95


def test_the_exported_file_gives_the_same_labels(predicted, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    file = tmp_path / 'streets.onnx'
    result = tool('deployment/export.py', STREETS.config, STREETS.name, '--out', file, '--labels', '--shape', 360, 480)
    assert result.returncode == 0, result.stderr
    session = onnxruntime.InferenceSession(file)
    for path, expected in zip(PICTURES, predicted, strict=True):
        image = cv2.imread(str(path)).transpose(2, 0, 1)[None].astype(np.float32)
        labels, = session.run(None, {session.get_inputs()[0].name: image})
        assert (labels.squeeze() == expected).mean() > .9999


def test_a_config_alone_needs_a_checkpoint():
    with pytest.raises(InputError, match='needs a checkpoint'):
        Predictor('upernet_replknet_tiny_camvid')
