"""The notebook runs from top to bottom, and what it stores is fit to show."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.warm import python

NOTEBOOK = Path(__file__).parents[2] / 'docs/tutorial.ipynb'
LENGTH = 'ITERATIONS = 300'


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def outputs(notebook, kind):
    return [output for cell in notebook.cells for output in cell.get('outputs', []) if output.output_type == kind]


def test_runs_from_top_to_bottom(notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'executable', python('torch'))  # in which Jupyter starts it
    first = next(cell for cell in notebook.cells if LENGTH in cell.source)
    first.source = first.source.replace(LENGTH, 'ITERATIONS = 10').replace('PICTURES = 100', 'PICTURES = 10')
    NotebookClient(notebook, timeout=600, resources=dict(metadata=dict(path=str(tmp_path)))).execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == 'code')
    text = ''.join(output.text for output in outputs(notebook, 'stream') if output.name == 'stdout')
    assert 'mIoU' in text and 'by more than 1e-3: True' in text and 'the same label in 100.0%' in text
    assert len(outputs(notebook, 'display_data')) == 4
    assert (tmp_path / 'work_dirs/tutorial/model.onnx').stat().st_size > 1e6


def test_what_is_stored_is_fit_to_show(notebook):
    """It was run once, as a whole and without a word of warning, and tells nothing of the machine."""
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not outputs(notebook, 'error') and all(output.name == 'stdout' for output in outputs(notebook, 'stream'))
    assert not re.search(r'/(home|root|tmp|usr|work|opt)/|\.venv|site-packages', NOTEBOOK.read_text())
    assert NOTEBOOK.stat().st_size < 300_000
