import logging

import pytest
from mmengine.logging import MMLogger

from mmreplk import InputError
from mmreplk.cli import run
from mmreplk.mm import logs


@pytest.fixture
def log(tmp_path):
    """The file of the current MMEngine logger."""
    logger = MMLogger.get_instance(tmp_path.name, log_file=str(tmp_path / 'x.log'), log_level='INFO')
    yield tmp_path / 'x.log'
    for handler in logger.handlers:
        handler.close()


def test_what_the_package_logs_is_in_mmengines_log_once(log):
    logs.attach()  # again
    logger = logging.getLogger('mmreplk.ops')
    logger.info('%d filters', 3)
    logger.debug('unheard')
    MMLogger.get_current_instance().setLevel('ERROR')
    logger.warning('too quiet')
    assert log.read_text().count(' - INFO - 3 filters\n') == 1
    assert 'unheard' not in log.read_text() and 'too quiet' not in log.read_text()


def test_the_traceback_of_what_a_user_can_mend_is_kept_there(log, capsys):

    def command():
        try:
            raise KeyError('its cause')
        except KeyError as error:
            raise InputError('x must be y') from error

    with pytest.raises(SystemExit):
        run(command)
    assert capsys.readouterr().err == f'error: x must be y (the traceback is in {log})\n'
    assert "KeyError: 'its cause'" in log.read_text()
