from pathlib import Path

import pytest

from mmreplk import InputError, shipped
from mmreplk.shipped import config_names, find_config, tool_names

ROOT = Path(__file__).parents[1]


def test_names_are_those_of_the_files():
    configs, tools = config_names(), tool_names()
    assert configs['upernet_replknet31b_ade20k'] == ROOT / 'configs/upernet_replknet31b_ade20k.py'
    assert configs['guidelines/k13'] == ROOT / 'configs/guidelines/k13.py'
    assert not [name for name in configs if '_base_' in name]
    assert tools['train'] == ROOT / 'tools/train.py' and tools['get_flops'].parent.name == 'analysis_tools'


def test_no_two_tools_share_a_name_and_those_of_maintainers_have_none():
    files = [path for path in (ROOT / 'tools').rglob('*.py') if 'dev' not in path.parts]
    assert sorted(tool_names().values()) == sorted(files)


@pytest.mark.parametrize('name', ['guidelines/k13', 'guidelines/k13.py', 'configs/guidelines/k13.py'])
def test_a_config_is_found_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == ROOT / 'configs/guidelines/k13.py'
    own = tmp_path / name
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text('')
    assert find_config(name) == Path(name), 'a file of the user comes first'


@pytest.mark.parametrize(('name', 'words'), [
    ('upernet_replknet31b_ade20', "does not exist; did you mean 'upernet_replknet31b_ade20k'?"),
    ('configs/upernet_replknet_31b_ade20k.py', "does not exist; did you mean 'upernet_replknet31b_ade20k'?"),
    ('mine.py', "config 'mine.py' does not exist$"),
    ('_base_/default_runtime', 'does not exist$'),
    ('', "config '' does not exist$"),
])
def test_what_is_not_there_is_said_with_the_nearest_name(name, words):
    with pytest.raises(InputError, match=words.replace('?', r'\?')):
        find_config(name)


def test_without_configs_there_are_no_names(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, 'CONFIGS', tmp_path / 'none')
    monkeypatch.setattr(shipped, 'TOOLS', tmp_path / 'none')
    assert config_names() == tool_names() == {}
