import json

import pytest
from fuzzing import sandbox

from tests.tools.processes import tool


def test_a_few_inputs_of_each_kind_that_are_not_what_they_should_be(tmp_path):
    """A fixed part of what docs/reliability.md reports: two of each kind."""
    pytest.importorskip('mmseg')
    pytest.importorskip('mmdet')
    figures, cases = tmp_path / 'figures.json', tmp_path / 'cases.json'
    call = ('dev/fuzz_inputs.py', '--work-dir', tmp_path / 'work', '--json', figures, '--cases', cases, '--only')
    result = tool(*call, 1)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    kept = json.loads(cases.read_text())
    kept['cases'][0]['outcome'] = 'refused, as it was kept'
    cases.write_text(json.dumps(kept))
    assert tool(*call, 1, 2).returncode == 1, 'an outcome that is not among the right ones'
    assert len(json.loads(cases.read_text())['cases']) == 8
    figures = json.loads(figures.read_text())
    assert figures['checkpoints']['outcomes'].pop('refused, as it was kept') == 1
    figures['checkpoints']['outcomes']['refused'] += 1
    assert {kind: figures[kind]['outcomes'] for kind in figures} == dict(
        checkpoints=dict(refused=2), segmentation=dict(warned=1, refused=1), coco=dict(refused=2),
        configs=dict(refused=2))


@pytest.mark.parametrize(('script', 'outcome'), [
    ('import sys; print("error: it is broken"); sys.exit(2)', sandbox.REFUSED),
    ('import sys; print("error: something is wrong"); sys.exit(2)', sandbox.UNNAMED),
    ('import sys; print("error: it is broken\\nerror: and more"); sys.exit(2)', sandbox.TRACEBACK),
    ('raise ValueError("it")', sandbox.TRACEBACK), ('pass', sandbox.SILENT),
    ('import time; time.sleep(600)', sandbox.HUNG), ('import os; os.kill(os.getpid(), 9)', sandbox.CRASHED),
    ('import os, sys; os.mkdir(sys.argv[1]); print("error: it is broken"); sys.exit(2)', sandbox.EXECUTED),
])
def test_the_judge(tmp_path, monkeypatch, script, outcome):
    if outcome == sandbox.HUNG:
        monkeypatch.setattr(sandbox, 'TIMEOUT_SECONDS', 1)
    box = sandbox.Sandbox(tmp_path / 'work')
    (tmp_path / 'tool.py').write_text(script)
    case = sandbox.Case('a case', [str(tmp_path / 'tool.py'), str(box.marker)], ('it is', ))
    assert box.attempt(case)[0] == outcome


@pytest.mark.parametrize(('option', 'value', 'words'), [
    ('--checkpoints', '-1', '--checkpoints must not be negative, got -1'),
    ('--json', '/', 'must be a file, it is a folder'),
])
def test_what_cannot_be_done_is_said_at_once(option, value, words):
    result = tool('dev/fuzz_inputs.py', option, value)
    assert result.returncode == 2 and words in result.stderr and 'Traceback' not in result.stderr
