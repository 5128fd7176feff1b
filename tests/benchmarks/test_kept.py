import json

import pytest

from mmreplk import InputError
from mmreplk.benchmarks import Kept


def test_rows_are_in_the_file_as_soon_as_they_are_measured(tmp_path):
    path = tmp_path / 'new/figures.json'
    kept = Kept(path, dict(device='a', shape=(2, 3)))
    assert not path.exists()
    kept.add([dict(size=(4, 4), ms=1.5)])
    assert json.loads(path.read_text()) == dict(device='a', shape=[2, 3], results=[dict(size=[4, 4], ms=1.5)])
    again = Kept(path, dict(device='a', shape=(2, 3)))
    assert again.measured(size=(4, 4)) == [dict(size=[4, 4], ms=1.5)] and not again.measured(size=(4, 5))
    again.add([dict(size=(4, 5), ms=2)])
    assert len(json.loads(path.read_text())['results']) == 2


def test_without_a_file_nothing_is_kept():
    kept = Kept(None, dict(device='a'))
    kept.add([dict(ms=1)])
    assert kept.measured(ms=1) == [dict(ms=1)]


@pytest.mark.parametrize(('text', 'words'), [
    ('', 'exists and holds no figures of this tool'),
    ('[1]', 'exists and holds no figures of this tool'),
    ('{"device": "a"}', 'exists and holds no figures of this tool'),
    ('{"device": "b", "results": []}', "has figures of another run, with device='b' instead of 'a'"),
    ('{"device": "a", "extra": 1, "results": []}', 'has figures of another run, with extra=1 instead of None'),
])
def test_what_is_no_file_of_this_run(tmp_path, text, words):
    (tmp_path / 'figures.json').write_text(text)
    with pytest.raises(InputError, match=words):
        Kept(tmp_path / 'figures.json', dict(device='a'))
    assert (tmp_path / 'figures.json').read_text() == text
    with pytest.raises(InputError, match='cannot be read: Is a directory'):
        Kept(tmp_path, dict(device='a'))
