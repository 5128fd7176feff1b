import sys

import pytest
import torch

from mmreplk import reparameterized
from mmreplk.mm.benchmarks.memory import build_segmentor, measure_memory, slide_bound_mib
from tests.conftest import randomize
from tests.mm.benchmarks.small import small_config
from tests.processes import alone


@pytest.fixture
def cfg():
    return small_config()


def saved_mib(function):
    """Returns what ``function`` keeps for its backward passes, which is the same every time, in MiB."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        function()
    return sum(storage.nbytes() for storage in storages.values()) / 2**20


def test_training_takes_more_than_evaluating(cfg):
    train, evaluate = (alone(measure_memory, cfg, work, (128, 128), 2) for work in ('train', 'evaluate'))
    assert train['extra'] > evaluate['extra'] > 1 and train['weights'] == evaluate['weights'] > 0


def test_checkpointing_saves(cfg, monkeypatch):
    monkeypatch.setattr(sys.modules[measure_memory.__module__], 'peak_mib', saved_mib)
    train, with_cp = (measure_memory(cfg, work, (128, 128), 2)['extra'] for work in ('train', 'train with_cp'))
    assert 1 < with_cp < train


def test_sliding_windows_stay_within_the_bound(cfg):
    size = (1024, 1024)
    cfg.model.test_cfg = dict(mode='whole')
    window = alone(measure_memory, cfg, 'evaluate', (256, 256))['extra']
    cfg.model.test_cfg = dict(mode='slide', crop_size=(256, 256), stride=(256, 256))
    scores = 4 * 11 * size[0] * size[1] / 2**20
    assert 2 * scores < alone(measure_memory, cfg, 'slide', size)['extra'] <= slide_bound_mib(size, 11, window)


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
