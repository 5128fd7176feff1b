"""Tests in several processes: each runs once, and none that fails or kills its process takes others with it."""

import pytest

from mmreplk.benchmarks import gpu_tests
from mmreplk.errors import InputError

TESTS = '''
import os
import pytest

@pytest.mark.parametrize('size', [(1, 2), 3, 4, 5], ids=str)
def test_good(size):
    pass

def test_bad():
    assert not 'PASSED is not what it says'

def test_deadly():
    os._exit(7)

def test_after_it():
    pass

@pytest.mark.skip(reason='it PASSED elsewhere')  # in this sample, to be reported as SKIPPED
def test_absent():
    pass
'''


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch):
    """Each process would import them for a second."""
    monkeypatch.setenv('PYTEST_DISABLE_PLUGIN_AUTOLOAD', '1')


@pytest.mark.parametrize('processes', [1, 3])
def test_each_test_runs_once_whatever_the_others_do(processes, tmp_path):
    (tmp_path / 'test_it.py').write_text(TESTS)
    lines = []
    ended = gpu_tests.run_tests(tmp_path, ['test_it.py'], processes, say=lines.append)
    short = {name.removeprefix('test_it.py::test_'): end for name, end in ended.items()}
    good = dict.fromkeys(['good[(1, 2)]', 'good[3]', 'good[4]', 'good[5]', 'after_it'], 'PASSED')
    assert short == {**good, 'bad': 'FAILED', 'deadly': 'ERROR', 'absent': 'SKIPPED'}
    assert sum('::test_good[4] PASSED' in line for line in lines) == 1, 'none runs twice'
    assert any('test_deadly ERROR, it ended its process with 7' in line for line in lines)
    assert gpu_tests.ENDED.findall('\n'.join(lines)) and any('not what it says' in line for line in lines)


def test_a_file_that_cannot_be_collected_is_told_and_the_others_run(tmp_path):
    (tmp_path / 'test_it.py').write_text('import no_such_module')
    with pytest.raises(InputError, match='no_such_module'):
        gpu_tests.run_tests(tmp_path, ['.'], 2)
    (tmp_path / 'test_other.py').write_text('def test_good(): pass')
    lines = []
    assert gpu_tests.run_tests(tmp_path, ['.'], 1, say=lines.append) == {'test_other.py::test_good': 'PASSED'}
    assert 'no_such_module' in lines[0]
