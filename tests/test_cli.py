import errno
import logging
import os
import signal
import subprocess
import time
from argparse import ArgumentTypeError

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from mmreplk import InputError
from mmreplk.cli import device, file_to_write, folder_to_write, run
from tests.warm import python


def failing(error):
    def command():
        raise error
    return command


@pytest.mark.parametrize(('error', 'code', 'words'), [
    (InputError('x must be y, got z'), 2, 'error: x must be y, got z'),
    (InputError('Caught InputError in worker 0.\nTraceback:\n  ...\nmmreplk.errors.InputError: a.jpg is broken\n'), 2,
     'error: a.jpg is broken'),
    (KeyboardInterrupt(), 130, 'interrupted. The last checkpoint, a/iter_5.pth, is whole: go on from it with'),
    (OSError(errno.ENOSPC, 'No space left'), 1, 'error: the disk is full ([Errno 28] No space left). The last'),
])
def test_what_a_user_can_mend_is_one_line(tmp_path, capsys, error, code, words):
    (tmp_path / 'last_checkpoint').write_text('a/iter_5.pth')
    with pytest.raises(SystemExit) as ending:
        run(failing(error), lambda: str(tmp_path))
    assert ending.value.code == code
    printed = capsys.readouterr().err
    assert printed.startswith(words) and printed.count('\n') == 1


def test_torchrun_reports_the_sentence(tmp_path, monkeypatch):
    file = str(tmp_path / 'error.json')
    monkeypatch.setenv('TORCHELASTIC_ERROR_FILE', file)
    with pytest.raises(SystemExit):
        run(failing(InputError('x must be y, got z')))
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=2, error_file=file)
    assert failure.message == 'error: x must be y, got z' and abs(time.time() - failure.timestamp) < 60


def test_without_a_checkpoint(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(failing(KeyboardInterrupt()), lambda: str(tmp_path))
    assert capsys.readouterr().err == 'interrupted. No checkpoint had been saved.\n'


@pytest.mark.parametrize('place', ['after_in_parent=interrupt', 'before=interrupt'])
def test_ctrl_c_while_a_process_is_started_ends_both(place):
    script = ('import multiprocessing, os, signal, time\n'
              'from mmreplk.cli import run\n'
              'parent = os.getpid()\n'
              'def interrupt():\n'
              '    os.kill(parent, signal.SIGINT)\n'
              'def command():\n'
              '    multiprocessing.Process(target=time.sleep, args=(600, ), daemon=True).start()\n'
              '    time.sleep(600)\n'
              f'os.register_at_fork({place})\n'
              'run(command)')
    ended = subprocess.run([python('torch'), '-W', 'ignore', '-c', script], capture_output=True, text=True, timeout=300,
                           preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    assert (ended.returncode, ended.stderr) == (130, 'interrupted.\n')


def test_a_log_that_is_gone_is_not_named(tmp_path, monkeypatch, capsys):
    error = InputError('x must be y, got z')
    error.__cause__ = ValueError('z')
    for is_there in (True, False):
        handler = logging.FileHandler(tmp_path / 'run.log')
        monkeypatch.setattr(logging.getLogger('mmreplk'), 'handlers', [handler])
        if not is_there:
            (tmp_path / 'run.log').unlink()
        with pytest.raises(SystemExit):
            run(failing(error))
        handler.close()
        assert ('the traceback is in' in capsys.readouterr().err) == is_there


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run(failing(ZeroDivisionError()))
    with pytest.raises(FileNotFoundError):
        run(failing(FileNotFoundError(errno.ENOENT, 'x')))


@pytest.mark.parametrize(('path', 'as_file', 'as_folder'), [
    ('new', None, None),
    ('folder/new/newer', None, None),
    ('folder', 'must be a file, it is a folder', None),
    ('file', None, 'must be a folder, and .*file. is a file'),
    ('file/new', 'must be a folder, and .*file. is a file', 'must be a folder, and .*file. is a file'),
])
def test_what_can_be_written_to(tmp_path, path, as_file, as_folder):
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'file').touch()
    for check, words in ((file_to_write, as_file), (folder_to_write, as_folder)):
        if words is None:
            assert check(f'{tmp_path}/{path}') == f'{tmp_path}/{path}'
        else:
            with pytest.raises(ArgumentTypeError, match=words):
                check(f'{tmp_path}/{path}')
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ['file', 'folder']


def test_what_is_not_allowed_to_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'access', lambda *_: False)  # root may write anywhere
    with pytest.raises(ArgumentTypeError, match='cannot be written to: .* does not allow it'):
        file_to_write(str(tmp_path / 'x'))


def test_a_device_that_is_not_there():
    assert device('cpu') == 'cpu'
    for name in ('warp', 'cpu:x', *(() if torch.cuda.is_available() else ('cuda', 'cuda:7'))):
        with pytest.raises(ArgumentTypeError, match=f'{name!r} is not a device that can be used: '):
            device(name)
