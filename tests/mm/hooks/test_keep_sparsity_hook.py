import pytest
import torch
from mmengine.hooks import EMAHook
from torch import nn

from mmreplk import InputError
from mmreplk.mm import ExactResumeHook, KeepSparsityHook, SLaK
from tests.conftest import assert_same_bits
from tests.mm.hooks.classifier import Classifier, make_runner

ARCH = dict(layers=[1, 1], channels=[4, 8], large_kernel_sizes=[9, 7])


def classifier(sparsity=0.4):
    torch.manual_seed(0)
    model = Classifier(SLaK(ARCH, out_indices=[1], layer_scale=1.))
    with torch.no_grad():
        for weight in weights(model).values():
            weight.mul_(torch.rand_like(weight) >= sparsity)
    return model


def weights(model):
    return {name: p for name, p in model.backbone.named_parameters() if p.ndim > 1}


def zeros(model):
    return {name: p.detach() == 0 for name, p in weights(model).items()}


def run(folder, *hooks, model=None, **options):
    runner = make_runner(folder, *hooks, model=model or classifier(), **options)
    runner.train()
    return runner


def test_zeros_stay_and_all_else_learns(tmp_path):
    before, start = zeros(classifier()), weights(classifier())
    ema = EMAHook(momentum=.5)
    runner = run(tmp_path / 'kept', KeepSparsityHook(), ema)
    assert_same_bits(zeros(runner.model), before)
    for name, weight in weights(runner.model).items():
        assert not torch.equal(weight, start[name]), name
    averaged = {name: p == 0 for name, p in weights(ema.ema_model.module).items()}
    assert_same_bits(averaged, before)
    lost = run(tmp_path / 'lost')
    assert any(not torch.equal(mask, before[name]) for name, mask in zeros(lost.model).items())


def test_a_resumed_run_has_the_same_bits(tmp_path):
    whole = run(tmp_path / 'whole', ExactResumeHook(), KeepSparsityHook())
    run(tmp_path / 'cut', ExactResumeHook(), KeepSparsityHook(), max_iters=4)
    rest = run(tmp_path / 'cut', ExactResumeHook(), KeepSparsityHook(), model=classifier(0.), resume=True)
    assert_same_bits(rest.model.state_dict(), whole.model.state_dict())


def test_what_is_not_sparse_is_refused(tmp_path):
    with pytest.raises(InputError, match='found 0 zeros among [0-9]+ weights, less than 1%: load a sparse checkpoint'):
        run(tmp_path, KeepSparsityHook(), model=classifier(0.))


def test_a_model_without_such_a_network_is_named(tmp_path):

    class Plain(nn.Module):

        def forward(self, x):
            return (x[:, :, ::8, ::8].repeat(1, 3, 1, 1)[:, :8], )

    with pytest.raises(InputError, match='KeepSparsityHook needs a model with a large-kernel network, got Classifier'):
        run(tmp_path, KeepSparsityHook(), model=Classifier(Plain()))
