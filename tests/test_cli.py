import errno
import logging

import pytest

from mmreplk import InputError
from mmreplk.cli import run


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


def test_without_a_checkpoint(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(failing(KeyboardInterrupt()), lambda: str(tmp_path))
    assert capsys.readouterr().err == 'interrupted. No checkpoint had been saved.\n'


def test_a_log_that_is_gone_is_not_named(tmp_path, capsys):
    log, error = logging.getLogger('mmreplk'), InputError('x must be y, got z')
    error.__cause__ = ValueError('z')
    for is_there in (True, False):
        handler = logging.FileHandler(tmp_path / 'run.log')
        log.addHandler(handler)
        try:
            if not is_there:
                (tmp_path / 'run.log').unlink()
            with pytest.raises(SystemExit):
                run(failing(error))
        finally:
            log.removeHandler(handler)
            handler.close()
        assert ('the traceback is in' in capsys.readouterr().err) == is_there


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run(failing(ZeroDivisionError()))
    with pytest.raises(FileNotFoundError):
        run(failing(FileNotFoundError(errno.ENOENT, 'x')))
