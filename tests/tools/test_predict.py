import os
import shutil

from tests.tools.conftest import TINY
from tests.tools.processes import command, tool


def test_a_folder_is_predicted_and_what_failed_is_listed(trained, data_root, tmp_path):
    images = shutil.copytree(data_root / 'images/validation', tmp_path / 'in')
    good = sorted(images.iterdir())
    (images / 'cut.jpg').write_bytes(good[0].read_bytes()[:-200])
    out = tmp_path / 'out'
    arguments = ('predict.py', images, '--model', TINY, '--out', out, '--batch-size', 2, '--slide', 96, 64,
                 '--cfg-options', f'work_dir={trained}')
    result = command(*arguments)
    assert result.returncode == 2 and 'Traceback' not in result.stderr, result.stderr
    assert f'{len(good)} of {len(good) + 1} files predicted in' in result.stdout
    assert '1 files could not be predicted:\n' in result.stderr and "cut.jpg' is damaged" in result.stderr
    assert len(list((out / 'overlays').iterdir())) == len(list((out / 'raw').iterdir())) == len(good)
    again = tool(*arguments)
    assert again.returncode == 2 and f'{len(good)} of {len(good) + 1} results are there already' in again.stderr


def test_the_page_needs_gradio(trained, tmp_path):
    (tmp_path / 'gradio.py').write_text('raise ImportError("No module named gradio")')
    path = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    result = command('serve.py', TINY, trained / 'iter_4.pth', PYTHONPATH=path)
    assert result.returncode == 2 and 'Traceback' not in result.stderr, result.stderr
    assert 'the page needs Gradio, which is not installed: pip install "mmreplk[serve]"' in result.stderr
