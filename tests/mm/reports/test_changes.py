import pytest
from mmengine.config import Config

from mmreplk.mm.reports import config_changes


def test_what_a_config_and_the_command_line_change(tmp_path):
    (tmp_path / 'base.py').write_text("a = dict(b=1, c=((1, 2), [dict(d=1, e=(2, 3))]))\n"
                                      "hooks = [dict(type='A', n=1)]\nold = 1")
    leaf = tmp_path / 'leaf.py'
    leaf.write_text("_base_ = 'base.py'\na = dict(b=2)\nhooks = [dict(type='A', n=3)]")
    trained = Config.fromfile(leaf)
    trained.merge_from_dict({'a.c': [[1, 2], [dict(e=[2, 3], d=1)]], 'new.x': 'y'})
    assert [tuple(change) for change in config_changes(trained, leaf)] == [
        ('a.b', '1', '2'), ('hooks.0.n', '1', '3'), ('new.x', '(absent)', "'y'")]


def test_a_config_that_inherits_nothing(tmp_path):
    (tmp_path / 'alone.py').write_text('a = 1')
    assert config_changes(Config(dict(a=1)), tmp_path / 'alone.py') == [('a', '(absent)', '1')]


@pytest.mark.parametrize('other', ['', ", 'base.py'"], ids=['alone', 'beside a file'])
def test_a_config_that_inherits_of_a_framework(tmp_path, other):
    (tmp_path / 'base.py').write_text('mine = 1')
    leaf = tmp_path / 'leaf.py'
    leaf.write_text(f"_base_ = ['mmdet::_base_/schedules/schedule_1x.py'{other}]\ntrain_cfg = dict(max_epochs=7)")
    assert [tuple(change) for change in config_changes(Config.fromfile(leaf), leaf)] == [
        ('train_cfg.max_epochs', '12', '7')]


def test_a_config_in_pure_python(tmp_path, monkeypatch):
    schedules = tmp_path / 'framework/configs'
    schedules.mkdir(parents=True)
    (tmp_path / 'framework/__init__.py').touch()
    (schedules / 'schedule.py').write_text('train_cfg = dict(max_epochs=12, val_interval=1)\n')
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'pure_base.py').write_text('from torch.optim import SGD, AdamW\n\noptimizer = dict(type=SGD, lr=1)\n'
                                           'other = dict(type=AdamW)\nsame = 1\n')
    leaf = tmp_path / 'pure_leaf.py'
    leaf.write_text('from mmengine.config import read_base\nfrom torch.optim import AdamW\n\nwith read_base():\n'
                    '    from .pure_base import *\n    from framework.configs.schedule import *\n\n'
                    'optimizer.update(type=AdamW)\ntrain_cfg.update(max_epochs=7)\n')
    assert [tuple(change) for change in config_changes(Config.fromfile(leaf), leaf)] == [
        ('optimizer.type', "'SGD'", "'AdamW'"), ('train_cfg.max_epochs', '12', '7')]
