import pytest
import torch

from mmreplk.mm import StrictLoadHook
from mmreplk.weights import read_checkpoint
from tests.mm.hooks.classifier import Classifier, make_runner


@pytest.fixture
def checkpoint(tmp_path):
    model, path = Classifier(), tmp_path / 'model.pth'
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


def edit(path, change):
    saved = read_checkpoint(path)
    change(saved['state_dict'])
    torch.save(saved, path)
    return str(path)


def test_a_whole_checkpoint_is_evaluated(tmp_path, checkpoint):
    assert 'logits' in make_runner(tmp_path, StrictLoadHook(), load_from=str(checkpoint)).val()


@pytest.mark.parametrize(('change', 'words'), [
    (lambda s: s.pop('head.bias'), "is of another model: it lacks 'head.bias'"),
    (lambda s: s.update({'head.bias': torch.ones(5)}), r"'head.bias' has shape \(5,\), this model needs \(2,\)"),
])
def test_a_checkpoint_of_another_head_is_not(tmp_path, checkpoint, change, words):
    runner = make_runner(tmp_path, StrictLoadHook(), load_from=edit(checkpoint, change))
    with pytest.raises(ValueError, match=words):
        runner.val()


def test_fine_tuning_may_leave_the_head_out(tmp_path, checkpoint):
    path = edit(checkpoint, lambda s: s.pop('head.bias'))
    make_runner(tmp_path, StrictLoadHook(), load_from=path, max_iters=1).train()
    with pytest.raises(ValueError, match="lacks 'head.bias'"):
        make_runner(tmp_path, StrictLoadHook(), load_from=path, resume=True).train()
