"""The whole measurement of a GPU, at tiny sizes on a CPU."""

import json
import runpy
import shutil
import sys

import pytest

from mmreplk.ops.cpu import compiled
from tests.tools.processes import ROOT, tool
from tests.warm import python


@pytest.fixture
def measure(monkeypatch, capsys):
    """The tool in this process, its parts in others."""
    monkeypatch.setattr(sys, 'executable', python('frameworks'))

    def run(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')
        return capsys.readouterr().out

    return run


def test_every_part_runs_and_a_second_call_goes_on(measure, tmp_path):
    pytest.importorskip('triton')
    pytest.importorskip('mmseg')
    if library := compiled.library():
        shutil.copy(library._name, tmp_path)  # the cache of what is measured; compiling takes eight seconds
    call = ('analysis_tools/measure_gpu.py', '--device', 'cpu', '--tiny', '--minutes', 60, '--out', tmp_path)
    first = measure(*call)
    state = json.loads((tmp_path / 'parts.json').read_text())
    unfinished = [name for name, part in state.items() if part['status'] != 'done']
    assert not unfinished, [(tmp_path / f'{name}.log').read_text()[-800:] for name in unfinished]
    assert ' '.join(state) == 'imports environment compile tests operator_fast models training pointwise'
    page = (tmp_path / 'summary.md').read_text()
    assert page in first
    for found in ('| compile | done |', ' 0 failed', 'skipped', '1,3,10,13x5', 'folded 3x3', 'training 3x3',
                  'NCHW matrix product'):
        assert found in page, found

    (tmp_path / 'operator_fast.json').write_text('{"environment": {}, "results": []}')
    state['operator_fast']['status'] = 'out of time'
    (tmp_path / 'parts.json').write_text(json.dumps(state))
    second = tool(*call)  # as a user calls it, its part too
    assert second.stdout.startswith('operator_fast: done\n') and '1,3,10,13x5' in second.stdout


@pytest.fixture
def planned():
    return runpy.run_path(str(ROOT / 'tools/analysis_tools/measure_gpu.py'))['planned']


@pytest.mark.parametrize('tiny', [False, True])
def test_the_tests_that_it_runs_are_there(planned, tiny, tmp_path):
    command = next(part.command for part in planned(tmp_path, 'cuda', tiny) if part.name == 'tests')
    places = [ROOT / word.split('::')[0] for word in command if word.startswith('tests/')]
    assert places and all(place.exists() for place in places), places


def test_parts_find_what_this_process_finds_and_only_measurements_are_tuned(planned, tmp_path, monkeypatch):
    """The frameworks may be in a folder that only PYTHONPATH names."""
    monkeypatch.setenv('PYTHONPATH', '/frameworks')
    for part in planned(tmp_path, 'cuda', False):
        assert f'PYTHONPATH={ROOT}:/frameworks' in part.command, part
        assert ('MMREPLK_AUTOTUNE=1' in part.command) == (part.name not in ('imports', 'tests')), part
