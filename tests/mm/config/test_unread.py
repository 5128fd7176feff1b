from pathlib import Path

import pytest

from mmreplk.mm.config import load_config
from mmreplk.mm.config.unread import unread_names

ROOT = Path(__file__).parents[3]
TINY = ROOT / 'configs/upernet_replknet_tiny_miniade20k.py'
CAMVID = ROOT / 'configs/upernet_replknet_tiny_camvid.py'


@pytest.fixture
def said(monkeypatch):
    """What reading a config warns of."""
    sentences = []
    monkeypatch.setattr('mmreplk.mm.config.load.print_log', lambda message, **_: sentences.append(message))
    return lambda: [sentence for sentence in sentences if not sentence.startswith('SyncBN')]


@pytest.fixture
def child(tmp_path):

    def write(text, base=TINY):
        (tmp_path / 'child.py').write_text(f"_base_ = '{base}'\n{text}\n")
        return str(tmp_path / 'child.py')

    return write


def test_our_configs_set_nothing_in_vain():
    for path in sorted((ROOT / 'configs').rglob('*.py')):
        assert path.stem == 'default_runtime' or not list(unread_names(path)), path


@pytest.mark.parametrize(('option', 'places'), [
    ('max_iters', 'max_iters changes nothing: .*; its value is now in .*train_cfg.max_iters'),
    ('crop_size', 'crop_size changes nothing: .* train_dataloader.dataset.pipeline.3.crop_size'),
    ('train_pipeline.0.type', 'train_dataloader.dataset.pipeline'),
    ('vis_backends', 'visualizer.vis_backends'),
])
def test_options_that_are_variables_of_the_file(option, places):
    with pytest.raises(ValueError, match=f'--cfg-options .*{places}'):
        load_config(str(CAMVID), {option: 20})


def test_options_that_only_own_code_reads(said):
    assert load_config(str(TINY), {'own_value': 5, 'rehearsal': False}).own_value == 5
    assert said() == ["'own_value' of --cfg-options is a new name, which only your own code can read"]


@pytest.mark.parametrize('text', [
    'crop_size = (256, 256)', "img_suffix = '.tif'", "vis_backends = [dict(type='TensorboardVisBackend')]",
    "train_pipeline = [dict(type='LoadImageFromFile')]", "data_root = 'elsewhere'"
])
def test_names_that_a_child_sets_in_vain(child, said, text):
    name = text.partition(' ')[0]
    load_config(child(text))
    assert len(said()) == 1 and f'child.py sets {name!r}, which changes nothing' in said()[0]


@pytest.mark.parametrize('text', [
    'crop_size = (64, 64)\nmodel = dict(data_preprocessor=dict(size=crop_size))',
    "published = {'ADE20K mIoU': 1.0}\ndata_hint = 'There.'\nload_from = None\n_own = 5",
    'pipeline = {{_base_.test_pipeline}}\nval_dataloader = dict(dataset=dict(pipeline=pipeline))',
])
def test_names_that_are_used(child, said, text):
    load_config(child(text))
    assert said() == []


def test_a_file_that_a_run_wrote_holds_all_names(tmp_path, said):
    load_config(str(CAMVID)).dump(str(tmp_path / 'dumped.py'))
    load_config(str(tmp_path / 'dumped.py'))
    assert said() == []


def test_hooks_that_a_list_replaces(child, said):
    gone = 'ReparamHook, BackboneWeightsHook, StrictLoadHook, CheckDataHook, ExactResumeHook, NonFiniteHook, PeakMemor'
    load_config(child("custom_hooks = [dict(type='EMAHook')]"))
    load_config(str(TINY), {'custom_hooks': [dict(type='EMAHook')]})
    assert len(said()) == 2 and all(f'replace those of its base: {gone}' in sentence for sentence in said())


def test_hooks_that_a_list_adds_to(child, said):
    cfg = load_config(child("custom_hooks = [*_base_.custom_hooks, dict(type='EMAHook')]"))
    assert said() == [] and len(cfg.custom_hooks) == 9
    assert load_config(str(TINY), {'custom_hooks.0.type': 'ReparamHook'}) and said() == []
