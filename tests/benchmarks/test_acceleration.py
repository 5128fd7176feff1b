import copy
import json
import statistics

import pytest
import torch
from torch import nn

from mmreplk import accelerate
from mmreplk.benchmarks import benchmark_tables
from mmreplk.benchmarks.acceleration import compare, fill


class Scaled(nn.Module):
    """A branch that fresh weights make negligible, and a BatchNorm that data shift."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)
        self.large = nn.Conv2d(8, 8, 31, padding=15, groups=8)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 1e-6))

    def forward(self, x):
        x = self.norm(self.stem(x))
        return x + self.gamma * self.large(x)


@pytest.fixture
def images():
    return torch.randn(2, 3, 48, 48)


def test_figures_are_of_both_forms_and_of_the_same_weights(images):
    plain = fill(Scaled(), images)
    fast = Scaled()
    assert accelerate(fast) == ['large']
    inference, training = compare(plain, fast, images, rounds=3)
    assert (inference['work'], training['work']) == ('inference', 'training')
    for row in (inference, training):
        assert row['batch'] == 2 and row['size'] == [48, 48] and row['dtype'] == 'float32'
        assert len(row['plain_ms']) == len(row['fast_ms']) == 3
        assert row['ratio'] == statistics.median(a / b for a, b in zip(row['plain_ms'], row['fast_ms'], strict=True))
        assert row['errors']['plain'] == dict(output=0, gradient=0)
        assert all(error < 1e-5 for error in row['errors']['fast'].values())
    low, _ = compare(plain.bfloat16(), fast.bfloat16(), images.bfloat16(), rounds=1)
    for errors in low['errors'].values():
        assert 1e-4 < errors['output'] < 3e-2 and 1e-4 < errors['gradient'] < 3e-2


@pytest.mark.parametrize('part', ['output', 'gradient'])
def test_a_wrong_form_is_seen(part, images):
    plain = fill(Scaled(), images)
    wrong = copy.deepcopy(plain)
    if part == 'output':
        wrong.large.register_forward_hook(lambda module, inputs, out: out * 1.01)
    else:
        wrong.large.weight.register_hook(lambda grad: grad * 1.01)
    row, _ = compare(plain, wrong, images, rounds=1)
    assert row['errors']['fast'][part] > 1e-4


def test_filled_weights_make_every_branch_count(images):
    model = fill(Scaled(), images).eval()
    x = model.norm(model.stem(images))
    torch.testing.assert_close(x.mean((0, 2, 3)), model.norm.bias, rtol=0, atol=1e-2)  # its statistics are the images'
    assert 0.02 < float((model.gamma * model.large(x)).std() / x.std()) < 5
    assert model.norm.momentum == 0.1


def test_the_table_has_what_the_file_has(tmp_path, images):
    model = fill(Scaled(), images)
    rows = [dict(model='Scaled', layers=1, **row) for row in compare(model, copy.deepcopy(model), images, rounds=1)]
    errors = dict(plain=dict(output=0.0, gradient=3e-3), fast=dict(output=2e-7, gradient=4e-3))
    rows[0].update(ratio=1.5, plain_ms=[30, 10, 20], fast_ms=[15, 5, 10], errors=errors)
    (tmp_path / 'some.json').write_text(json.dumps(dict(environment=dict(device='a processor'), results=rows)))
    text = benchmark_tables(tmp_path)
    assert f'[some.json]({tmp_path.name}/some.json): device a processor.' in text
    assert '| Scaled | 1 | inference | 2 | 48x48 | float32 | 20.0 | 10.0 | 1.50 | 2e-07 | 4e-03 (3e-03) |' in text
