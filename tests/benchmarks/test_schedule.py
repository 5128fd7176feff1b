"""Parts that run within a time: what ends, what is ended, and what is run again."""

import json
import sys
import time
from pathlib import Path

from mmreplk.benchmarks import schedule
from mmreplk.benchmarks.schedule import Part, run_parts, set_aside

WAIT = 'import time; time.sleep(60)'


def python(code):
    return [sys.executable, '-c', code]


def test_no_part_stops_or_outlasts_the_others(tmp_path, monkeypatch):
    told, begin = [], time.monotonic()
    monkeypatch.setattr(schedule, 'LEAST_SECONDS', .2)
    orphan = f'import subprocess, sys; subprocess.Popen([sys.executable, "-c", {WAIT!r}]); print("begun"); {WAIT}'
    parts = [
        Part('good', python(f'open({str(tmp_path / "found")!r}, "a").write("1")'), 1),
        Part('bad', python('raise SystemExit("no such thing")'), 1),
        Part('absent', [sys.executable, str(tmp_path / 'nothing.py')], 1),
        Part('endless', [sys.executable, '-u', '-c', orphan], .03),  # seven seconds, and half a minute for the others
        Part('last', python('print("here")'), 1),
    ]
    state = run_parts(parts, 240, tmp_path, told.append)
    assert time.monotonic() - begin < 240
    assert {name: part['status'] for name, part in state.items()} == dict(
        good='done', bad='failed', absent='failed', endless='out of time', last='done')
    assert told[0] == 'good: done' and len(told) == 5
    assert 'no such thing' in (tmp_path / 'bad.log').read_text() and 'begun' in (tmp_path / 'endless.log').read_text()
    assert json.loads((tmp_path / 'parts.json').read_text()) == state

    # Again: what is done is not run twice, what failed is.
    parts[1] = parts[1]._replace(command=python('print("mended")'))
    again = run_parts([parts[0], parts[1]], 240, tmp_path, told.append)
    assert (tmp_path / 'found').read_text() == '1' and told[5:] == ['bad: done']
    assert again['bad']['status'] == 'done' and again['endless']['status'] == 'out of time'


def test_what_a_part_started_ends_with_it(tmp_path):
    pid = tmp_path / 'pid'
    child = f'import os, time; open({str(pid)!r}, "w").write(f"{{os.getpid()}} "); time.sleep(600)'
    parent = f'''
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {child!r}])
while not (os.path.exists({str(pid)!r}) and open({str(pid)!r}).read().endswith(" ")):
    time.sleep(.05)
'''
    state = run_parts([Part('parent', python(parent), 1)], 240, tmp_path, lambda line: None)
    assert state['parent']['status'] == 'done'
    status = Path(f'/proc/{pid.read_text().strip()}/status')
    for _ in range(300):
        if not status.exists() or 'State:\tZ' in status.read_text():
            return
        time.sleep(.1)
    raise AssertionError('the child still runs')


def test_parts_that_would_come_too_late_are_not_begun(tmp_path):
    state = run_parts([Part('late', python(WAIT), 1)], 4, tmp_path, lambda line: None)
    assert state == dict(late=dict(status='not begun')) and not (tmp_path / 'late.log').exists()


def test_figures_of_two_commits_are_kept_apart(tmp_path):
    parts = [Part(name, [], 1) for name in ('same', 'other', 'done', 'absent', 'bare')]
    (tmp_path / 'parts.json').write_text(json.dumps(dict(done=dict(status='done'), other=dict(status='out of time'))))
    for name, commit in [('same', 'b'), ('other', 'a'), ('done', 'a')]:
        (tmp_path / f'{name}.json').write_text(json.dumps(dict(environment=dict(commit=commit, device='A card'))))
    (tmp_path / 'bare.json').write_text('{"compiled": []}')
    now = dict(commit='b', torch='2.13.0')

    def files():
        return sorted(path.name for path in tmp_path.glob('*.json'))

    set_aside(parts, tmp_path, now)
    assert files() == ['bare.json', 'done.json', 'other.1.json', 'parts.json', 'same.json']
    (tmp_path / 'other.json').write_text('{"environment": {"commit": "c"}}')
    set_aside(parts, tmp_path, now)
    assert files() == ['bare.json', 'done.json', 'other.1.json', 'other.2.json', 'parts.json', 'same.json']
