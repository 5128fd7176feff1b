import numpy as np
import pytest
import torch
from torch import nn

from mmreplk import InputError, RepLKNet
from mmreplk.pictures.receptive_field import THRESHOLDS, area_ratios, contributions, estimate_statistics, scores
from tests.conftest import randomize


@pytest.mark.parametrize(('size', 'stride'), [(5, 1), (4, 4), (3, 2)])
def test_of_one_convolution_it_is_the_filters(size, stride):
    conv = nn.Conv2d(3, 6, size, stride, padding=size // 2 if stride < size else 0)
    images = [torch.randn(2, 3, 16, 20) for _ in range(3)]
    rows, columns = conv(images[0]).shape[-2:]
    expected = np.zeros((16, 20))
    for image in images:
        for features in conv(image).detach().numpy()[:, :, rows // 2, columns // 2]:
            # What a filter says of a pixel is its weight, if the channel is positive at the centre.
            weights = conv.weight.detach().numpy().astype(np.float64)[features > 0].sum(0)
            top, left = (n // 2 * stride - conv.padding[0] for n in (rows, columns))
            expected[top:top + size, left:left + size] += np.maximum(weights, 0).sum(0) / 3
    actual = contributions(conv, images)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)
    assert (actual > 0).sum() == (expected > 0).sum() > 1


def test_it_is_the_derivative_of_what_is_positive_at_the_centre():
    layers = nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3, 2, 1)
    model = nn.Sequential(*layers).double()
    image, step = torch.randn(1, 3, 6, 6, dtype=torch.float64), 1e-6
    model.eval()

    def centre(images):
        return model(images)[:, :, 1, 1].clamp(min=0).sum(1)

    steps = step * torch.eye(image.numel(), dtype=torch.float64).view(-1, 3, 6, 6)
    with torch.no_grad():
        derivative = (centre(image + steps) - centre(image - steps)) / (2 * step)
    expected = derivative.view(3, 6, 6).clamp(min=0).sum(0)
    model.train()  # as it may come; statistics of the batch would have another derivative
    np.testing.assert_allclose(contributions(model, [image]), expected.numpy(), atol=1e-8)


def test_the_last_of_several_outputs_counts():
    class Pyramid(nn.Module):

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 5, 2, 2)

        def forward(self, x):
            x = self.first(x)
            return x, self.second(x)

    model = Pyramid()
    image = torch.randn(1, 3, 16, 16)
    np.testing.assert_array_equal(contributions(model, [image]),
                                  contributions(nn.Sequential(model.first, model.second), [image]))


def test_a_replknet_is_measured_merged_which_is_the_same():
    """In float64: of values next to zero, rounding would decide which pass a ReLU."""
    arch = dict(large_kernel_sizes=[7, 5], layers=[1, 1], channels=[4, 8], small_kernel=3)
    model = randomize(RepLKNet(arch, out_indices=[0, 1])).double().eval()
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64, requires_grad=True)
    centre = model(image)[1][:, :, 4, 4].clamp(min=0).sum()
    expected = torch.autograd.grad(centre, image)[0].clamp(min=0).sum((0, 1)).numpy()
    actual = contributions(model, [image])
    assert np.abs(actual - expected).max() < 1e-5 * expected.max() and (expected > 0).mean() > 0.02
    assert not model.stages[0].blocks[0].large_kernel.is_merged


@pytest.mark.parametrize('shape', [(32, 32), (33, 33), (24, 40)])
def test_area_ratios_are_those_of_growing_squares(shape):
    rng = np.random.default_rng(0)
    y, x = np.indices(shape)
    far = (y - shape[0] // 2)**2 + (x - shape[1] // 2)**2
    for spread in (2, 30, 3000):
        matrix = np.exp(-far / spread) * rng.random(shape)
        expected = {}
        for t in THRESHOLDS:
            expected[t] = 1.0
            for i in range(1, min(shape) // 2):
                square = [matrix[r, c] for r in range(shape[0]) for c in range(shape[1])
                          if abs(r - shape[0] // 2) <= i and abs(c - shape[1] // 2) <= i]
                if sum(square) / matrix.sum() > t:
                    expected[t] = len(square) / matrix.size
                    break
        assert area_ratios(matrix) == pytest.approx(expected)


def test_scores():
    assert scores(np.array([[0., 9.], [99., 999.]])) == pytest.approx(np.array([[0, 1], [2, 3]]) / 3)
    with pytest.raises(InputError, match='no pixel contributes anything'):
        scores(np.zeros((4, 4)))


def test_statistics_of_random_networks_are_those_of_the_images():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2))
    nn.init.constant_(model[1].running_mean, 7)
    images = [torch.randn(1, 3, 9, 9) for _ in range(5)]
    expected = [model[0](image).detach() for image in images]
    estimate_statistics(model, images)
    torch.testing.assert_close(model[1].running_mean, torch.stack([x.mean((0, 2, 3)) for x in expected]).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.stack([x.var((0, 2, 3)) for x in expected]).mean(0))
    assert not any(m.training for m in model.modules()) and model[1].momentum == 0.3

    def never():
        raise AssertionError('nothing is to be estimated without a BatchNorm')
        yield

    estimate_statistics(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)), never())


def test_what_cannot_be_measured():
    image = torch.ones(1, 3, 8, 8)
    with pytest.raises(InputError, match='there is no image'):
        contributions(nn.Conv2d(3, 2, 1), [])
    with pytest.raises(InputError, match=r'the last output of Flatten must be a feature map .*, got \(1, 192\)'):
        contributions(nn.Flatten(), [image])
    with pytest.raises(InputError, match='the features of image 1, counted from 0, or their gradient are not finite'):
        contributions(nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)), [image, image * float('nan')])
