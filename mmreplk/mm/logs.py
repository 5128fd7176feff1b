"""Sends what the package logs to MMEngine's log."""

import logging

from mmengine.logging import MMLogger


class MMEngineHandler(logging.Handler):
    """Hands each record to the MMEngine logger that is current at that moment, with its console, files and levels."""

    @property
    def target(self) -> MMLogger:
        """The logger that gets the records."""
        return MMLogger.get_current_instance()

    def emit(self, record: logging.LogRecord) -> None:
        """Hands ``record`` on if the logger takes its level."""
        if self.target.isEnabledFor(record.levelno):
            self.target.handle(record)


def attach() -> None:
    """Hands MMEngine's logger what the package logs, from ``INFO`` up unless another level has been set."""
    logger = logging.getLogger('mmreplk')
    if not any(isinstance(handler, MMEngineHandler) for handler in logger.handlers):
        logger.addHandler(MMEngineHandler())
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
