"""The log: told everything, needs no settings, and is there when nothing else is."""

from __future__ import annotations

import logging

from include.etl.alerts.base import Alert
from include.etl.alerts.message import text, title

LEVELS = {"critical": logging.ERROR, "warning": logging.WARNING, "good": logging.INFO}
log = logging.getLogger("etl.alerts")


class LogChannel:
    """Writes the message as one event, at the level of the worst finding."""

    def send(self, alert: Alert) -> None:
        """Log it."""
        log.log(LEVELS[alert.worst.severity], "%s\n%s", title(alert), text(alert))
