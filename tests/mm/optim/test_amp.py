import pytest
import torch
from torch import nn

from mmreplk import InputError
from mmreplk.mm import CPUAmpOptimWrapper


def make_wrapper(**options):
    model = nn.Linear(2, 2)
    return model, CPUAmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=.1), **options)


@pytest.mark.parametrize(('dtype', 'is_scaled'), [('bfloat16', False), ('float16', True)])
def test_what_it_computes_in(dtype, is_scaled):
    model, wrapper = make_wrapper(dtype=dtype, loss_scale=8)
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        out = model(torch.ones(1, 2))
    assert out.dtype == getattr(torch, dtype) and wrapper.loss_scaler.is_enabled() == is_scaled
    wrapper.update_params(out.float().sum())
    assert torch.allclose(model.weight, before - .1) and wrapper.inner_count == 1
    state = wrapper.state_dict()
    make_wrapper(dtype=dtype)[1].load_state_dict(state)


def test_loss_scales():
    assert make_wrapper(dtype='float16', loss_scale=8)[1].loss_scaler.get_scale() == 8
    assert make_wrapper(dtype='float16', loss_scale=dict(init_scale=4.))[1].loss_scaler.get_scale() == 4
    for options in (dict(loss_scale='static'), dict(dtype='float64')):
        with pytest.raises(InputError, match='must be'):
            make_wrapper(**options)
