import sys

import pytest

from mmreplk import __main__ as command_line
from mmreplk import shipped
from mmreplk.about import describe
from mmreplk.weights import published


@pytest.fixture
def typed(monkeypatch, capsys):
    """Runs ``python -m mmreplk`` with arguments; returns how it ended and what it wrote."""
    monkeypatch.setitem(sys.modules, '__main__', sys.modules['__main__'])  # which a tool takes the place of

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['mmreplk/__main__.py', *arguments])
        status = 0
        try:
            command_line.main()
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr()

    return run


def test_alone_it_says_what_is_here(typed):
    status, said = typed()
    assert status == 0 and said.out == describe() + '\n'


def test_help_lists_every_tool(typed, monkeypatch):
    monkeypatch.setenv('COLUMNS', '100')
    status, said = typed('--help')
    assert status == 0 and '\n  train                   Trains a segmentor or a detector.\n' in said.out
    listed = {line.split()[0] for line in said.out.partition('commands:\n')[2].splitlines()}
    assert listed == {'stand-in', *shipped.tool_names()}
    assert max(map(len, said.out.splitlines())) <= 100


def test_a_tool_runs_by_its_name(typed):
    status, said = typed('list_weights')
    assert status == 0 and all(entry.name in said.out for entry in published.PUBLISHED.values())


@pytest.mark.parametrize('name', ['train', 'predict', 'get_flops'])
def test_help_and_mistakes_of_a_tool_say_what_was_typed(typed, name):
    status, said = typed(name, '--help')
    assert status == 0 and said.out.startswith(f'usage: python -m mmreplk {name} [-h]')
    status, said = typed(name)
    assert status == 2 and f'python -m mmreplk {name}: error: the following arguments are required' in said.err


def test_a_misspelt_command_is_answered_with_the_nearest(typed):
    assert typed('trian')[1].err == "error: python -m mmreplk has no command 'trian'; did you mean 'train'?\n"
    status, said = typed('dev')
    assert status == 2 and said.err == "error: python -m mmreplk has no command 'dev'\n"


def test_a_misspelt_config_too(typed):
    status, said = typed('train', 'upernet_replknet_tinny_camvid')
    assert status == 2 and "did you mean 'upernet_replknet_tiny_camvid'?" in said.err


@pytest.mark.parametrize(('text', 'words'), [
    ('import no_such_package.part', "needs a package that is not installed: No module named 'no_such_package'"),
    ('raise ImportError("mmreplk.mm needs it", name="no_such_package")', 'not installed: mmreplk.mm needs it'),
])
def test_a_package_that_a_tool_lacks_is_named(typed, monkeypatch, tmp_path, text, words):
    (tmp_path / 'try_it.py').write_text(text)
    monkeypatch.setattr(shipped, 'TOOLS', tmp_path)
    status, said = typed('try_it')
    assert status == 2 and said.err.startswith('error: python -m mmreplk try_it needs a package') and words in said.err


@pytest.mark.parametrize('text', ['from torch import no_such_name', 'import mmreplk.no_such_module', '1 / 0'])
def test_what_is_there_and_broken_keeps_its_traceback(typed, monkeypatch, tmp_path, text):
    (tmp_path / 'try_it.py').write_text(text)
    monkeypatch.setattr(shipped, 'TOOLS', tmp_path)
    with pytest.raises((ImportError, ZeroDivisionError)):
        typed('try_it')


def test_a_tool_is_the_main_module(typed, monkeypatch, tmp_path):
    """So that what it defines can be pickled, and worker processes that are spawned find it."""
    (tmp_path / 'try_it.py').write_text(
        'import pickle, sys\ndef here(): pass\n'
        'if __name__ == "__main__":\n    print(pickle.loads(pickle.dumps(here)) is here, __file__, sys.argv[1:])\n')
    monkeypatch.setattr(shipped, 'TOOLS', tmp_path)
    assert typed('try_it', '--x', 'y')[1].out == f"True {tmp_path / 'try_it.py'} ['--x', 'y']\n"
