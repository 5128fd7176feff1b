"""Runs ``interpreted_triton.py`` in a process of its own: Triton reads TRITON_INTERPRET when it is imported."""

import importlib.util
import os
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.warm import python

FILE = Path(__file__).with_name('interpreted_triton.py')


@pytest.fixture(scope='module')
def cases(request, tmp_path_factory):
    """Runs those of its tests that are selected here, all at once; returns their cases, each with what went wrong."""
    selected = [item.callspec.params['name'] for item in request.session.items
                if item.nodeid.startswith(request.node.nodeid)]
    report = tmp_path_factory.mktemp('triton') / 'report.xml'
    run = subprocess.run([python('torch'), '-m', 'pytest', '-p', 'no:cacheprovider', f'--junitxml={report}',
                          *(f'{FILE}::{name}' for name in selected)], env=dict(os.environ, TRITON_INTERPRET='1'),
                         capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stdout[-4000:] + run.stderr[-2000:]
    return {case.get('name'): '\n'.join(problem.text for problem in case)
            for case in ET.parse(report).iter('testcase')}


@pytest.mark.skipif(importlib.util.find_spec('triton') is None, reason='Triton is not installed')
@pytest.mark.parametrize('name', re.findall(r'^def (test_\w+)', FILE.read_text(), re.MULTILINE))
def test_in_the_interpreter(cases, name):
    found = {case: problem for case, problem in cases.items() if case.split('[')[0] == name}
    assert found and not any(found.values()), '\n'.join(map(': '.join, found.items()))
