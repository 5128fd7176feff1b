import re
import runpy
import sys
from pathlib import Path

import pytest

from mmreplk.weights import OWN, PUBLISHED

TOOL = Path(__file__).parents[2] / 'tools/model_converters/list_weights.py'


@pytest.fixture
def list_weights(monkeypatch, capsys):

    def run(*args):
        monkeypatch.setattr(sys, 'argv', [TOOL.name, *args])
        runpy.run_path(str(TOOL), run_name='__main__')
        return capsys.readouterr().out

    return run


def test_all_are_listed(list_weights):
    rows = [re.split('  +', line) for line in list_weights().splitlines()]
    assert [name for name, *_ in rows[1:]] == [*PUBLISHED, *OWN]
    assert ['unireplknet-t_in1k', 'UniRepLKNet T', 'classifier', 'ImageNet-1K', '224', '83.2 % top-1',
            'Apache-2.0'] in rows


def test_some_with_their_addresses(list_weights):
    found = PUBLISHED['unireplknet-a_in1k']
    line = f'{found.name} {found.url} {found.size} {found.sha256}\n'
    assert list_weights('unireplknet-a_in', '--addresses') == line


def test_what_is_not_there(list_weights, capsys):
    with pytest.raises(SystemExit, match='2'):
        list_weights('replnet')
    assert "error: there are no published weights 'replnet', the nearest name is 'replknet-" in capsys.readouterr().err
