import runpy
import shutil
import sys

import pytest

from tests.tools.conftest import TINY
from tests.tools.processes import ROOT, tool


def test_a_folder_is_predicted_and_what_failed_is_listed(trained, data_root, tmp_path):
    images = shutil.copytree(data_root / 'images/validation', tmp_path / 'in')
    good = sorted(images.iterdir())
    (images / 'cut.jpg').write_bytes(good[0].read_bytes()[:-200])
    out = tmp_path / 'out'
    arguments = ('predict.py', images, '--model', TINY, '--out', out, '--batch-size', 2, '--slide', 96, 64,
                 '--cfg-options', f'work_dir={trained}')
    result = tool(*arguments)
    assert result.returncode == 2 and 'Traceback' not in result.stderr, result.stderr
    assert f'{len(good)} of {len(good) + 1} files predicted in' in result.stdout
    assert '1 files could not be predicted:\n' in result.stderr and "cut.jpg' is damaged" in result.stderr
    assert len(list((out / 'overlays').iterdir())) == len(list((out / 'raw').iterdir())) == len(good)
    again = tool(*arguments)
    assert again.returncode == 2 and f'{len(good)} of {len(good) + 1} results are there already' in again.stderr


def test_the_page_needs_gradio(trained, tmp_path, monkeypatch, capfd):
    (tmp_path / 'gradio.py').write_text('raise ImportError("No module named gradio")')
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition('.')[0] == 'gradio']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, 'argv', ['tools/serve.py', TINY, str(trained / 'iter_4.pth')])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path('tools/serve.py', run_name='__main__')
    said = capfd.readouterr().err
    assert ended.value.code == 2 and 'Traceback' not in said, said
    assert 'the page needs Gradio, which is not installed: pip install "mmreplk[serve]"' in said
