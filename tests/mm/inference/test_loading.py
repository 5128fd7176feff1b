"""Pictures of one and four channels and of 16 bits, predicted as they are loaded in training."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmreplk import InputError
from mmreplk.benchmarks import count_flops
from mmreplk.benchmarks.flops import image_channels
from mmreplk.mm.benchmarks.comparison import measure_models
from mmreplk.mm.benchmarks.model import benchmark_model
from mmreplk.mm.benchmarks.setting import Setting
from mmreplk.mm.building import build_backbone, build_empty_model
from mmreplk.mm.data.reading import shown
from mmreplk.mm.export import real_batches
from mmreplk.mm.inference import Predictor, Segmentation, find_jobs, predict_files, serve
from mmreplk.pictures import ImageFolder
from tests.conftest import randomize
from tests.mm.inference.conftest import SEGMENTATION, picture, small_config

pytest.importorskip('mmseg')
LOADERS = {  # how the picture is written, and what its channels are
    'grey': (dict(color_type='grayscale'), 1, '.jpg', lambda image: image),
    'alpha': (dict(color_type='unchanged'), 4, '.png', lambda image: np.dstack([image, image[..., 0]])),
    '16 bits': (dict(color_type='unchanged', to_float32=True), 1, '.tif',
                lambda image: image[..., 0].astype(np.uint16) * 257),
}


def config(name):
    loader, channels, *_ = LOADERS[name]
    options = {f'test_dataloader.dataset.pipeline.0.{key}': value for key, value in loader.items()}
    return small_config(SEGMENTATION, **options, **{
        'model.backbone.in_channels': channels, 'model.data_preprocessor.mean': [127.5],
        'model.data_preprocessor.std': [127.5], 'model.data_preprocessor.bgr_to_rgb': False})


@pytest.fixture(scope='module', params=LOADERS)
def predictor(request, tmp_path_factory):
    cfg, path = config(request.param), tmp_path_factory.mktemp('checkpoint') / 'random.pth'
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = randomize(MODELS.build(cfg.model)).eval()
    torch.save(dict(state_dict=model.state_dict()), path)
    one = Predictor(cfg, path, device='cpu')
    one.name, one.twin = request.param, model
    return one


def test_files_are_read_as_the_test_pipeline_says(predictor, tmp_path):
    _, channels, suffix, convert = LOADERS[predictor.name]
    path = tmp_path / f'in/picture{suffix}'
    path.parent.mkdir()
    cv2.imwrite(str(path), convert(picture()))
    assert predict_files(predictor, find_jobs([path], tmp_path / 'out', Segmentation.suffix), tmp_path / 'out') == {}
    labels = np.asarray(Image.open(tmp_path / 'out/raw/picture.png'))
    overlay = cv2.imread(str(tmp_path / 'out/overlays/picture.jpg'))
    assert overlay.shape == (64, 64, 3)
    # What the model makes of the pixels that the test pipeline of MMSegmentation loads, without this package.
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE if predictor.name == 'grey' else cv2.IMREAD_UNCHANGED)
    pixels = torch.from_numpy(np.atleast_3d(pixels).astype(np.float32).transpose(2, 0, 1))[None]
    assert pixels.shape[1] == channels
    with torch.no_grad():
        expected = predictor.twin.encode_decode((pixels - 127.5) / 127.5, [dict(img_shape=(64, 64))]).argmax(1)[0]
    assert (labels != expected.numpy()[:64, :64]).mean() < 0.02  # folding rounds otherwise


def test_frames_are_made_grey_and_nothing_else_is_made_up(predictor):
    frame = picture()
    if predictor.name == 'grey':
        assert np.array_equal(predictor([frame])[0].labels,
                              predictor([cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)])[0].labels)
    else:
        words = f'has 3 channels as it is loaded, but the model takes {LOADERS[predictor.name][1]}'
        with pytest.raises(InputError, match=words):
            predictor([frame])


def test_the_page_begins(predictor):
    pytest.importorskip('gradio')
    with serve(predictor, predictor.name) as url:
        assert url.startswith('http://127.0.0.1:')


def test_other_files_are_refused_by_name(predictor, tmp_path):
    path = tmp_path / 'other.png'
    cv2.imwrite(str(path), picture())
    if predictor.name != 'grey':
        with pytest.raises(InputError, match="other.png.* has 3 channels as it is loaded, but the model takes"):
            predictor.read(path)
    path.write_text('no picture')
    with pytest.raises(InputError, match="other.png.* cannot be read by LoadImageFromFile, as the pipeline says"):
        predictor.read(path)
    with pytest.raises(InputError, match="none.png' does not exist"):
        predictor.read(tmp_path / 'none.png')


@pytest.mark.parametrize('name', LOADERS)
def test_costs_are_those_of_the_channels(name):
    cfg = config(name)
    channels = LOADERS[name][1]
    model = build_empty_model(cfg)
    assert image_channels(model) == channels
    assert count_flops(model, (64, 64))['flops'] > 0
    assert measure_models(dict(a=cfg), (64, 64))['a']['latency_ms'] > 0
    if name == 'grey':
        assert all(row['median_ms'] > 0 for row in benchmark_model(cfg, Setting(size=(64, 64), rounds=2)))


def test_folders_of_pictures(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), picture())
    backbone = build_backbone(config('grey'))
    images = ImageFolder(str(tmp_path), 1, backbone.preprocessor, (64, 64), image_channels(backbone.module))
    assert images[0].shape == (1, 1, 64, 64) and len(backbone.module(images[0])) == 4
    assert [tuple(batch.shape) for batch in real_batches(tmp_path, channels=1)] == [(1, 1, 64, 64), (2, 1, 61, 59)]
    for call in (lambda: ImageFolder(str(tmp_path), 1, backbone.preprocessor, None, 4),
                 lambda: real_batches(tmp_path, channels=4)):
        with pytest.raises(InputError, match='the network takes 4 channels, and pictures are read with one or three'):
            call()


@pytest.mark.parametrize('image', [
    np.zeros((4, 5), np.uint8), np.zeros((4, 5, 2), np.float32), np.arange(4 * 5 * 13).reshape(4, 5, 13)
])
def test_everything_can_be_shown(image):
    assert shown(image).shape == (4, 5, 3) and shown(image).dtype == np.uint8
