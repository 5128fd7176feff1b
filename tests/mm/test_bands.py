"""Pictures of four bands of 16 bits, which neither Pillow nor OpenCV's usual way reads, from the data to the report."""

import importlib.util

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope

from mmreplk import InputError
from mmreplk.mm.checks import check_before_training, check_split
from mmreplk.mm.config import load_config
from mmreplk.mm.data import make_mini_ade20k
from mmreplk.mm.data.reading import PipelineReader, missing_decoder
from mmreplk.mm.export.quantization import training_images
from mmreplk.mm.inference import Predictor, Segmentation, find_jobs, predict_files
from mmreplk.mm.inference.page import Limits, _answer
from mmreplk.mm.reports.examples import find_examples
from mmreplk.mm.runner import build_runner, close_runner
from tests.tools.processes import ROOT, tool

pytest.importorskip('mmseg')
LOADER = "dict(type='LoadImageFromFile', color_type='unchanged', to_float32=True)"
CONFIG = """
_base_ = '{base}'
model = dict(
    data_preprocessor=dict(mean=[30000.], std=[20000.], bgr_to_rgb=False, size=(64, 64)),
    backbone=dict(in_channels=4, arch=dict(
        _delete_=True, large_kernel_sizes=[7, 5, 5, 3], layers=[1, 1, 1, 1], channels=[4, 8, 8, 8], small_kernel=3)),
    decode_head=dict(in_channels=[4, 8, 8, 8], channels=8))
load = {loader}
train_pipeline = [load, dict(type='LoadAnnotations', reduce_zero_label=True), dict(type='PackSegInputs')]
test_pipeline = [load, dict(type='LoadAnnotations', reduce_zero_label=True), dict(type='PackSegInputs')]
dataset = dict(data_root='{root}', img_suffix='.tif')
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                        dataset=dict(pipeline=train_pipeline, **dataset))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
"""


def bands(path, count=4):
    """Returns the pixels of a picture as bands of 16 bits."""
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.uint16)
    return np.dstack([grey * (257 - 20 * band) for band in range(count)])


@pytest.fixture
def config(tmp_path):
    root = make_mini_ade20k(tmp_path / 'data', num_train=4, num_val=2, size=64)
    for path in (root / 'images').rglob('*.jpg'):
        cv2.imwrite(str(path.with_suffix('.tif')), bands(path))
        path.unlink()
    path = tmp_path / 'bands.py'
    base = ROOT / 'configs/upernet_replknet_tiny_miniade20k.py'
    path.write_text(CONFIG.format(base=base, root=root, loader=LOADER))
    return path


def test_from_the_data_to_the_report(config, tmp_path):
    cfg = load_config(str(config), work_dir=str(tmp_path / 'run'))
    init_default_scope('mmseg')
    check_before_training(cfg)
    assert [check_split(cfg[f'{split}_dataloader'].dataset)[:2] for split in ('train', 'val')] == [(4, []), (2, [])]
    runner = build_runner(cfg)
    runner.train()
    close_runner(runner)
    checkpoint = tmp_path / 'run/iter_2.pth'
    init_default_scope('mmseg')
    examples = find_examples(load_config(str(config)), checkpoint)
    assert all(one.picture.dtype == np.uint8 and one.picture[:, :64].std() > 5 for one in examples.chosen)
    predictor = Predictor(load_config(str(config)), checkpoint, device='cpu')
    images = sorted((tmp_path / 'data/images/validation').iterdir())
    assert predict_files(predictor, find_jobs(images, tmp_path / 'out', Segmentation.suffix), tmp_path / 'out') == {}
    assert [image.shape for image in training_images(load_config(str(config)), 2)] == [(1, 4, 64, 64)] * 2
    sheet = tmp_path / 'sheet.png'
    result = tool('analysis_tools/contact_sheet.py', config, tmp_path / 'data/annotations/validation', sheet)
    assert result.returncode == 0 and cv2.imread(str(sheet))[:64, :64].std() > 5, result.stderr
    # The page takes PNG, in which four bands of 16 bits are at home too.
    page = tmp_path / 'page.png'
    cv2.imwrite(str(page), cv2.imread(str(images[0]), cv2.IMREAD_UNCHANGED))
    view, panel = _answer(predictor, Limits(), page)
    assert 'Predicted in' in panel and '64 &times; 64 pixels' in panel and 'found: ' in view
    cv2.imwrite(str(page), np.zeros((64, 64, 3), np.uint8))
    assert 'has 3 channels as it is loaded, but the model takes 4' in _answer(predictor, Limits(), page)[1]


def test_a_picture_that_is_cut_short_is_found_all_the_same(config, tmp_path):
    path = next((tmp_path / 'data/images/training').iterdir())
    path.write_bytes(path.read_bytes()[:200])
    init_default_scope('mmseg')
    assert check_split(load_config(str(config)).train_dataloader.dataset)[1] == [
        f'1 files cannot be read as pictures: {path}'
    ]


@pytest.mark.parametrize('tool_name', ['analysis_tools/erf.py', 'analysis_tools/check_merge.py'])
def test_pictures_that_are_read_with_one_or_three_channels(config, tmp_path, tool_name):
    cfg = load_config(str(config))
    init_default_scope('mmseg')
    from mmengine.registry import MODELS
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict()), tmp_path / 'a.pth')
    result = tool(tool_name, config, tmp_path / 'a.pth', '--images', tmp_path / 'data/images/validation', '--out',
                  tmp_path / 'out')
    assert result.returncode == 2 and 'the network takes 4 channels, and pictures are read with' in result.stderr


@pytest.mark.parametrize(('step', 'words'), [
    (dict(type='LoadImageFromFile', imdecode_backend='tifffile'), 'needs tifffile, which is not installed: pip'),
    (dict(type='LoadImageFromFile', imdecode_backend='turbojpeg'), 'needs turbojpeg, which is not .* PyTurboJPEG'),
    (dict(type='LoadSingleRSImageFromFile'), "needs GDAL, which is not installed: .*imdecode_backend='tifffile'"),
    (dict(type='mmseg.LoadMultipleRSImageFromFile'), 'needs GDAL, which is not installed'),
])
def test_what_reads_pictures_and_is_not_installed_is_named_before_training(config, monkeypatch, step, words):
    cfg = load_config(str(config))
    find = importlib.util.find_spec
    monkeypatch.setattr('importlib.util.find_spec', lambda name, *more: None if name in (
        'osgeo', 'tifffile', 'turbojpeg') else find(name, *more))
    cfg.train_dataloader.dataset.pipeline[0] = step
    with pytest.raises(InputError, match=f'train_dataloader.dataset.pipeline.0 cannot be used: .*{words}'):
        check_before_training(cfg)
    with pytest.raises(InputError, match=words):
        PipelineReader([step])


def test_what_needs_nothing_more():
    for step in (dict(type='LoadImageFromFile'), dict(type='LoadImageFromFile', imdecode_backend='cv2'),
                 dict(type='Resize', imdecode_backend=[]), 'no step', None):
        assert missing_decoder(step) is None


def test_seven_bands_through_tifffile(tmp_path):
    tifffile = pytest.importorskip('tifffile')
    cv2.imwrite(str(tmp_path / 'a.png'), np.arange(64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8))
    pixels = bands(tmp_path / 'a.png', 7)
    tifffile.imwrite(tmp_path / 'a.tif', pixels)
    init_default_scope('mmseg')
    read = PipelineReader([dict(type='LoadImageFromFile', imdecode_backend='tifffile', to_float32=True)])
    assert np.array_equal(read(tmp_path / 'a.tif'), pixels)
    (tmp_path / 'b.tif').write_text('no picture')
    with pytest.raises(InputError, match=r'b.tif. cannot be read by LoadImageFromFile, as the pipeline says'):
        read(tmp_path / 'b.tif')


class StandIn:
    """In the place of GDAL: reads bands that NumPy has saved."""

    def Open(self, path):
        self.path = path
        return self

    def ReadAsArray(self):
        return np.load(self.path).transpose(2, 0, 1)


def test_bands_through_gdal(config, tmp_path, monkeypatch):
    """GDAL itself is not installed here; what MMSegmentation asks of it is answered by a stand-in."""
    monkeypatch.setattr('mmseg.datasets.transforms.loading.gdal', StandIn())
    monkeypatch.setattr('mmreplk.mm.data.reading.missing_decoder', lambda step: None)
    monkeypatch.setattr('mmreplk.mm.checks.preflight.missing_decoder', lambda step: None)
    for path in (tmp_path / 'data/images').rglob('*.tif'):
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        path.unlink()
        with open(path, 'wb') as file:
            np.save(file, pixels)
    cfg = load_config(str(config), work_dir=str(tmp_path / 'run'))
    init_default_scope('mmseg')
    step = dict(type='LoadSingleRSImageFromFile')
    for split in ('train', 'val', 'test'):
        cfg[f'{split}_dataloader'].dataset.pipeline[0] = step
    assert TRANSFORMS.build(step) is not None
    check_before_training(cfg)
    assert check_split(cfg.train_dataloader.dataset)[:2] == (4, [])
    runner = build_runner(cfg)
    runner.train()
    close_runner(runner)
    predictor = Predictor(cfg, tmp_path / 'run/iter_2.pth', device='cpu')
    images = sorted((tmp_path / 'data/images/validation').iterdir())
    assert predict_files(predictor, find_jobs(images, tmp_path / 'out', Segmentation.suffix), tmp_path / 'out') == {}
    assert len(DATASETS.build(cfg.test_dataloader.dataset)) == 2
