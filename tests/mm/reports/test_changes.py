import pytest
from mmengine.config import Config

from mmreplk.mm.reports import config_changes


def test_what_a_config_and_the_command_line_change(tmp_path):
    (tmp_path / 'base.py').write_text("a = dict(b=1, c=(1, 2))\nhooks = [dict(type='A', n=1)]\nold = 1")
    leaf = tmp_path / 'leaf.py'
    leaf.write_text("_base_ = 'base.py'\na = dict(b=2)\nhooks = [dict(type='A', n=3)]")
    trained = Config.fromfile(leaf)
    trained.merge_from_dict({'a.c': [1, 2], 'new.x': 'y'})
    assert [tuple(change) for change in config_changes(trained, leaf)] == [
        ('a.b', '1', '2'), ('hooks.0.n', '1', '3'), ('new.x', '(absent)', "'y'")]  # yapf: disable


def test_a_config_that_inherits_nothing(tmp_path):
    (tmp_path / 'alone.py').write_text('a = 1')
    assert config_changes(Config(dict(a=1)), tmp_path / 'alone.py') == [('a', '(absent)', '1')]


@pytest.mark.parametrize('other', ['', ", 'base.py'"], ids=['alone', 'beside a file'])
def test_a_config_that_inherits_of_a_framework(tmp_path, other):
    (tmp_path / 'base.py').write_text('mine = 1')
    leaf = tmp_path / 'leaf.py'
    leaf.write_text(f"_base_ = ['mmdet::_base_/schedules/schedule_1x.py'{other}]\ntrain_cfg = dict(max_epochs=7)")
    assert [tuple(change) for change in config_changes(Config.fromfile(leaf), leaf)] == [
        ('train_cfg.max_epochs', '12', '7')]  # yapf: disable
