"""``load_from`` and ``resume`` in real runs, from every layout."""

import pytest
import torch
from mmengine.hooks import Hook

from mmreplk.mm import BackboneWeightsHook, StrictLoadHook
from tests.conftest import assert_same_bits, copied_state, randomize
from tests.mm.hooks.classifier import Classifier, make_runner
from tests.networks.layouts import LAYOUTS, official_classification


class Loaded(Hook):

    def before_train(self, runner):
        self.state = copied_state(runner.model)


@pytest.mark.parametrize('layout', LAYOUTS, ids=lambda layout: layout.__name__)
def test_fine_tuning_starts_from_every_source(tmp_path, layout, reports):
    source, path = randomize(Classifier().backbone).state_dict(), tmp_path / 'weights.pth'
    torch.save(layout(source), path)
    loaded = Loaded()
    runner = make_runner(tmp_path, BackboneWeightsHook(), StrictLoadHook(), loaded, load_from=str(path), max_iters=1)
    head = runner.model.head.weight.detach().clone()
    runner.train()
    backbone = {name.removeprefix('backbone.'): t for name, t in loaded.state.items() if name.startswith('backbone.')}
    assert_same_bits(backbone, source)
    assert torch.equal(loaded.state['head.weight'], head)
    assert len(reports) == 1 and f'{len(source)} of its {len(source)} tensors' in reports[0]
    if layout is official_classification:
        assert "left out: norm.weight and 4 more (the classifier's norm), head.weight and 1 more (the" in reports[0]


def test_without_it_a_backbone_alone_is_refused(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(official_classification(Classifier().backbone.state_dict()), path)
    with pytest.raises(ValueError, match='do not fit this RepLKNet.*no tensor at all'):
        make_runner(tmp_path, load_from=str(path)).load_or_resume()


def test_a_backbone_alone_is_not_evaluated(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save(official_classification(Classifier().backbone.state_dict()), path)
    runner = make_runner(tmp_path, BackboneWeightsHook(), StrictLoadHook(), load_from=str(path))
    with pytest.raises(ValueError, match="is of another model: it lacks 'head.weight'"):
        runner.val()


def test_our_checkpoints_are_resumed_from(tmp_path, reports):
    first = make_runner(tmp_path, BackboneWeightsHook(), StrictLoadHook(), max_iters=2)
    first.train()
    second = make_runner(tmp_path, BackboneWeightsHook(), StrictLoadHook(), max_iters=4,
                         load_from=str(tmp_path / 'iter_2.pth'), resume=True)
    second.load_or_resume()
    assert_same_bits(second.model.state_dict(), first.model.state_dict())
    assert second.iter == 2 and len(reports) == 1
