import contextlib
import errno
import signal
import time

import pytest

from mmreplk import InputError
from mmreplk.engine import console, run


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


@pytest.fixture
def own_interrupts():
    """Tests in the background of a shell are born deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_becomes_another_error_is_one(own_interrupts, capsys):

    def command():
        try:
            signal.raise_signal(signal.SIGINT)
        except:  # noqa: E722
            raise SyntaxError from None

    with pytest.raises(SystemExit) as ending:
        run(command)
    assert ending.value.code == 130 and capsys.readouterr().err == 'interrupted.\n'
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_is_swallowed_comes_again(own_interrupts, monkeypatch):
    monkeypatch.setattr(console, 'REPEAT_SECONDS', 0.1)

    def command():
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGINT)
        time.sleep(20)

    begin = time.time()
    with pytest.raises(SystemExit) as ending:
        run(command)
    assert ending.value.code == 130 and time.time() - begin < 10
    time.sleep(.2)  # and not once more


def test_without_a_checkpoint(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(failing(KeyboardInterrupt()), lambda: str(tmp_path))
    assert capsys.readouterr().err == 'interrupted. No checkpoint had been saved.\n'


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run(failing(ZeroDivisionError()))
    with pytest.raises(FileNotFoundError):
        run(failing(FileNotFoundError(errno.ENOENT, 'x')))
