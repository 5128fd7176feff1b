import numpy as np
import pytest
import torch
from torch import nn

from mmreplk import SLaK, UniRepLKNet
from mmreplk.sparsity import (
    apply_masks,
    exchange,
    mask_average,
    prune_rate_at,
    random_mask,
    snip_counts,
    sparsifiable,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_what_can_be_sparse():
    slak = SLaK(dict(layers=[1, 1], channels=[4, 8], large_kernel_sizes=[9, 7]))
    assert {*sparsifiable(slak)} == {name for name, weight in slak.named_parameters() if weight.ndim > 1}
    other = UniRepLKNet(dict(layers=[1, 1], channels=[4, 8], kernel_sizes=[[3], [7]]))
    named = sparsifiable(other)
    assert all(named[name] is weight for name, weight in other.named_parameters() if name in named)
    assert 'stages.1.0.pwconv1.1.weight' in named
    left_out = {name for name, weight in other.named_parameters() if weight.ndim > 1 and name not in named}
    assert left_out == {f'stages.{i}.0.act.1.{name}' for i in range(2) for name in ('gamma', 'beta')}, 'of the GRN'
    assert [*sparsifiable(nn.Linear(2, 3))] == ['weight']


@pytest.mark.parametrize('sparsity', [.1, .4, .95])
def test_layers_keep_what_snip_says(sparsity):
    shapes = (4, 1, 9, 5), (7, 3), (2, 2, 2, 2)
    weights = [torch.randn(shape) * 10**-i for i, shape in enumerate(shapes)]
    gradients = [torch.randn(shape) for shape in shapes]
    counts = snip_counts(weights, gradients, sparsity)
    scores = [np.abs(w.double().numpy() * g.double().numpy()).ravel() for w, g in zip(weights, gradients, strict=True)]
    total = sum(map(len, scores))
    assert sum(counts) == round((1 - sparsity) * total)
    threshold = np.sort(np.concatenate(scores))[total - sum(counts)]
    assert counts == [int((score >= threshold).sum()) for score in scores]


def test_equal_scores_are_kept_to_the_asked_number():
    assert snip_counts([torch.ones(6), torch.ones(6)], [torch.zeros(6), torch.zeros(6)], .25) == [6, 3]


def test_random_masks_have_the_asked_number_anywhere():
    weight = torch.empty(6, 1, 5, 5)
    masks = torch.stack([random_mask(weight, 60, generator(seed)) for seed in range(400)])
    assert masks.dtype == torch.bool and (masks.sum((1, 2, 3, 4)) == 60).all()
    often = masks.double().mean(0)
    assert often.min() > .25 and often.max() < .55, 'every place is as likely'


def test_the_rate_is_the_official_schedule():
    """PyTorch's CosineAnnealingLR, which the official code steps along."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, .005)
    for step in range(51):
        assert prune_rate_at(step, 50, .5) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize('by_gradient', [False, True])
@pytest.mark.parametrize(('rate', 'dropped'), [(.3, 12), (.301, 13), (.005, 1)])
def test_the_smallest_are_dropped_and_as_many_grow(rate, dropped, by_gradient):
    weight, gradient = torch.randn(10, 10), torch.randn(10, 10)
    mask = random_mask(weight, 40, generator())
    weight *= mask
    before = mask.clone()
    new = exchange(weight, mask, rate, generator(1), gradient if by_gradient else None)
    assert torch.equal(mask, before) and new.shape == weight.shape and new.sum() == 40
    sizes = weight[mask].abs().sort().values
    assert new[mask & (weight.abs() > sizes[dropped - 1])].all(), 'the larger ones stay'
    free = ~(mask & (weight.abs() > sizes[dropped - 1]))
    if by_gradient:
        grown = free & (gradient.abs() >= gradient[free].abs().sort().values[-dropped])
        assert torch.equal(new, ~free | grown)
    else:
        seen = torch.stack([exchange(weight, mask, rate, generator(seed)) for seed in range(400)]).any(0)
        assert seen.float().mean() > .99, 'every place grows at times, also one that was just dropped'


def test_masks_reach_the_momentum_of_sgd_and_not_adams_averages():
    for kind, options in ((torch.optim.SGD, dict(momentum=.9)), (torch.optim.AdamW, {})):
        layer = nn.Linear(4, 4)
        optimizer = kind(layer.parameters(), lr=.1, **options)
        layer(torch.ones(1, 4)).sum().backward()
        optimizer.step()
        mask = torch.eye(4) > 0
        apply_masks({'weight': layer.weight}, {'weight': mask}, optimizer)
        assert torch.equal(layer.weight != 0, mask)
        state = optimizer.state[layer.weight]
        averages = [state['momentum_buffer']] if kind is torch.optim.SGD else [state['exp_avg'], state['exp_avg_sq']]
        for average in averages:
            assert torch.equal(average != 0, mask if kind is torch.optim.SGD else torch.ones(4, 4) > 0)


def test_averages_begin_with_what_has_grown():
    average, weight = torch.tensor([1., 2., 0., 0.]), torch.tensor([5., 0., 7., 0.])
    mask_average(average, weight, torch.tensor([True, False, True, False]))
    assert average.tolist() == [1, 0, 7, 0]
