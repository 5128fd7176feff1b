import pytest
import torch

from mmreplk import reparameterized
from mmreplk.mm.benchmarks.memory import build_segmentor, measure_memory, slide_bound_mib
from mmreplk.mm.config import load_config
from tests.conftest import randomize

SMALL = {
    'model.backbone.arch.channels': [8, 16, 16, 16],
    'model.decode_head.in_channels': [8, 16, 16, 16],
    'model.decode_head.channels': 16,
}


@pytest.fixture
def cfg():
    return load_config('configs/upernet_replknet_tiny_camvid.py', dict(SMALL))


def test_training_takes_more_than_evaluating_and_checkpointing_saves(cfg):
    found = {work: measure_memory(cfg, work, (128, 128), 2) for work in ('train', 'train with_cp', 'evaluate')}
    train, with_cp, evaluate = (row['extra'] for row in found.values())
    assert train > with_cp > evaluate > 1
    assert len({row['weights'] for row in found.values()}) == 1


def test_sliding_windows_stay_within_the_bound(cfg):
    size = (1024, 1024)
    cfg.model.test_cfg = dict(mode='whole')
    window = measure_memory(cfg, 'evaluate', (256, 256))['extra']
    cfg.model.test_cfg = dict(mode='slide', crop_size=(256, 256), stride=(256, 256))
    scores = 4 * 11 * size[0] * size[1] / 2**20
    assert 2 * scores < measure_memory(cfg, 'slide', size)['extra'] <= slide_bound_mib(size, 11, window)


@pytest.mark.parametrize('merged', [False, True])
def test_sliding_windows_are_whole_images_of_their_own(cfg, merged):
    """A window that covers the image gives its very result; elsewhere a pixel is the mean of the windows over it."""
    model, image = randomize(build_segmentor(cfg)).eval(), torch.randn(1, 3, 64, 96)

    def scores(mode, images=image, **windows):
        model.test_cfg = type(cfg.model)(mode=mode, **windows)
        return model.inference(images, [dict(ori_shape=images.shape[2:], img_shape=images.shape[2:])])

    with torch.no_grad(), reparameterized(model) if merged else torch.no_grad():
        whole = scores('whole')
        for crop in ((64, 96), (512, 512)):
            assert torch.equal(scores('slide', crop_size=crop, stride=(341, 341)), whole), crop
        slid = scores('slide', crop_size=(64, 64), stride=(32, 32))
        left, right = (scores('whole', image[..., x:x + 64]) for x in (0, 32))
    torch.testing.assert_close(slid[..., :32], left[..., :32])
    torch.testing.assert_close(slid[..., 64:], right[..., 32:])
    torch.testing.assert_close(slid[..., 32:64], (left[..., 32:] + right[..., :32]) / 2)
    assert not torch.allclose(slid, whole)
