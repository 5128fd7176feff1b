import json

import pytest

from tests.tools.conftest import tool
from tools.fuzzing import sandbox


def test_a_few_inputs_of_each_kind_that_are_not_what_they_should_be(tmp_path):
    """A fixed part of what docs/reliability.md reports: each is refused, warned of, harmless or unknowable."""
    pytest.importorskip('mmseg')
    pytest.importorskip('mmdet')
    result = tool('fuzz_inputs.py', '--work-dir', tmp_path / 'work', '--json', tmp_path / 'figures.json', '--seed', 7,
                  '--checkpoints', 4, '--segmentation', 3, '--coco', 1, '--configs', 4)  # yapf: disable
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    figures = json.loads((tmp_path / 'figures.json').read_text())
    counts = {kind: sum(figures[kind]['outcomes'].values()) for kind in figures}
    assert counts == dict(checkpoints=4, segmentation=3, coco=1, configs=4)
    assert figures['checkpoints']['outcomes']['refused'] >= 2
    assert figures['segmentation']['outcomes']['harmless'] >= 1  # the first is sound


@pytest.mark.parametrize(('script', 'outcome'), [
    ('import sys; print("error: it is broken"); sys.exit(2)', sandbox.REFUSED),
    ('import sys; print("error: something is wrong"); sys.exit(2)', sandbox.UNNAMED),
    ('import sys; print("error: it is broken\\nerror: and more"); sys.exit(2)', sandbox.TRACEBACK),
    ('raise ValueError("it")', sandbox.TRACEBACK), ('pass', sandbox.SILENT),
    ('import time; time.sleep(60)', sandbox.HUNG), ('import os; os.kill(os.getpid(), 9)', sandbox.CRASHED),
    ('import os, sys; os.mkdir(sys.argv[1]); print("error: it is broken"); sys.exit(2)', sandbox.EXECUTED),
])  # yapf: disable
def test_the_judge(tmp_path, monkeypatch, script, outcome):
    monkeypatch.setattr(sandbox, 'TIMEOUT_SECONDS', 3)
    box = sandbox.Sandbox(tmp_path / 'work')
    (tmp_path / 'tool.py').write_text(script)
    case = sandbox.Case('a case', [str(tmp_path / 'tool.py'), str(box.marker)], ('it is', ))
    assert box.attempt(case)[0] == outcome
