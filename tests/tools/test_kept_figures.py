"""A measurement that was interrupted goes on where it was."""

import json
import runpy
import sys

import pytest

from tests.tools.conftest import TINY
from tests.tools.processes import ROOT


def test_benchmark_model_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    pytest.importorskip('mmseg')
    monkeypatch.chdir(ROOT)
    out, made = tmp_path / 'figures.json', []
    command = ['benchmark_model.py', TINY, '--size', '64', '64', '--rounds', '2', '--json', str(out)]

    def main():
        monkeypatch.setattr(sys, 'argv', command)
        namespace = runpy.run_path('tools/analysis_tools/benchmark_model.py', run_name='tool')
        measure, main = namespace['measure'], namespace['main']

        def counted(part, *arguments):
            if part == 'model' and made[:1] != ['done']:
                made.append('done')
                raise KeyboardInterrupt
            made.append(part)
            return measure(part, *arguments)

        main.__globals__['measure'] = counted
        main(namespace['parse_args']())

    with pytest.raises(KeyboardInterrupt):
        main()
    before = json.loads(out.read_text())['results']
    assert {row['part'] for row in before} == {'backbone'} and len(before) == 5
    made[:] = ['done']
    main()
    after = json.loads(out.read_text())['results']
    assert made == ['done', 'model'] and after[:5] == before and len(after) == 10
    assert all(row['ratio'] == 1 for row in after if row['form'] == 'plain')
    printed = capsys.readouterr().out
    assert printed.count('| backbone | plain |') == 2 and printed.count('| model | plain |') == 1
