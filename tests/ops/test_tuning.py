"""The store of measurements: answers, classes of sizes, and folders that cannot be used."""

import json
import subprocess
import sys
import threading

import pytest

from mmreplk.ops import tuning


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    monkeypatch.setenv('MMREPLK_CACHE', str(tmp_path / 'cache'))
    tuning._known.clear()
    tuning._log_once.cache_clear()
    yield
    tuning._known.clear()


def ask(question='q', times=None, device='a CPU', default='slow'):
    times, asked = times or dict(slow=2.0, fast=1.0), []

    def measure(run):
        asked.append(run())
        if isinstance(times[asked[-1]], Exception):
            raise times[asked[-1]]
        return times[asked[-1]]

    candidates = {name: lambda name=name: name for name in times}
    return tuning.fastest(device, question, default, candidates, measure), asked


def test_the_fastest_is_asked_for_once_and_remembered_on_disk(tmp_path):
    assert ask() == ('fast', ['slow', 'fast'])
    assert ask() == ('fast', [])
    tuning._known.clear()
    assert ask() == ('fast', [])
    assert json.loads((tmp_path / 'cache' / 'a_CPU.json').read_text()) == {'q': 'fast'}
    assert ask(device='another/CPU')[1] == ['slow', 'fast']
    assert ask(times=dict(other=1.0), default='other') == ('other', ['other']), 'the answer is no candidate any more'


def test_what_cannot_run_is_passed_over():
    assert ask(times=dict(slow=2.0, fast=RuntimeError('out of memory')))[0] == 'slow'
    assert ask('r', times=dict(slow=RuntimeError('out of memory'), fast=float('inf')))[0] == 'slow', 'the default'


@pytest.mark.parametrize('text', ['', '{"q": ', '[1]', '\x00'])
def test_a_damaged_file_is_measured_anew(tmp_path, text):
    (tmp_path / 'cache').mkdir()
    (tmp_path / 'cache' / 'a_CPU.json').write_text(text)
    assert ask() == ('fast', ['slow', 'fast'])
    assert json.loads((tmp_path / 'cache' / 'a_CPU.json').read_text()) == {'q': 'fast'}


def test_a_folder_that_cannot_be_written_costs_one_line(tmp_path, caplog):
    (tmp_path / 'cache').write_text('a file where the folder should be')
    for question in 'qr':
        assert ask(question)[0] == 'fast'
        assert ask(question) == ('fast', []), 'remembered while the process lives'
    messages = [record.message for record in caplog.records if 'not kept' in record.message]
    assert len(messages) == 1 and 'results of tuning are not kept for the next run: ' in messages[0]


def test_processes_and_threads_lose_nothing(tmp_path):
    program = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location('tuning', sys.argv[2])  # alone, without PyTorch
tuning = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tuning)
for i in range(25):
    tuning.fastest('a CPU', f'{sys.argv[1]} {i}', 'a', {'a': lambda: None}, lambda run: 1.0)
"""
    processes = [subprocess.Popen([sys.executable, '-c', program, str(rank), tuning.__file__]) for rank in range(3)]
    threads = [threading.Thread(target=lambda k=k: [ask(f'thread {k} {i}') for i in range(25)]) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(120) for process in processes] == [0] * 3
    assert len(json.loads((tmp_path / 'cache' / 'a_CPU.json').read_text())) == 150
    assert {path.name for path in (tmp_path / 'cache').iterdir()} == {'a_CPU.json', 'a_CPU.lock'}


def test_threads_that_read_at_once_share_their_answers(monkeypatch):
    measuring, reading = threading.Event(), threading.Event()

    def read(path):
        if threading.current_thread().name == 'late':
            reading.set()
            assert measuring.wait(60)
        return {}

    def measure(run):
        if not measuring.is_set():
            assert reading.wait(60)
            measuring.set()
            late.join()
        return 1.0

    monkeypatch.setattr(tuning, '_read', read)
    late = threading.Thread(target=ask, args=['of the late one'], name='late')
    late.start()
    assert reading.wait(60)
    assert tuning.fastest('a CPU', 'q', 'a', {'a': lambda: None}, measure) == 'a'
    assert tuning.remembered('a CPU', 'of the late one') == 'fast'


def test_many_sizes_are_few_classes():
    assert [tuning.size_class(n) for n in (1, 2, 3, 4, 7, 8, 9, 10, 31, 32, 39, 40, 63, 64, 80)] == \
        [1, 2, 3, 4, 7, 8, 8, 10, 28, 32, 32, 40, 56, 64, 80]
    assert len({tuning.size_class(n) for n in range(16, 257)}) <= 17


def test_the_processor_has_a_name():
    assert len(tuning.processor()) > 5 and tuning.processor() == tuning.processor()
