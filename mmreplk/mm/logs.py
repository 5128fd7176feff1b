"""What the package logs, in MMEngine's log."""

import logging

from mmengine.logging import MMLogger


class MMEngineHandler(logging.Handler):
    """Hands records on to the MMEngine logger that is the current one when they come: its console, files and levels."""

    @property
    def target(self) -> MMLogger:
        """The logger that has the records."""
        return MMLogger.get_current_instance()

    def emit(self, record: logging.LogRecord) -> None:
        """Hands ``record`` on if the logger takes its level."""
        if self.target.isEnabledFor(record.levelno):
            self.target.handle(record)


def attach() -> None:
    """Lets MMEngine's logger have what the package logs, from ``INFO`` on unless its level has been set."""
    logger = logging.getLogger('mmreplk')
    if not any(isinstance(handler, MMEngineHandler) for handler in logger.handlers):
        logger.addHandler(MMEngineHandler())
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
