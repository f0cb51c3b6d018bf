"""Tells of runs whose end was noted in the outbox and that nobody has been told of, every time `freshness` runs."""

from __future__ import annotations

import logging
import time

from include.etl.alerts import outbox
from include.etl.alerts.report import tell_waiting
from include.etl.config import Source
from include.etl.sources import load_sources
from include.etl.storage import Storage

log = logging.getLogger("etl.alerts")
PASS_S = 600.0
"""The next pass goes on with those that have waited longest since they were tried."""


def tell_later() -> int:
    """Tell, of all sources, what still waits; how many entries wait after that.

    Raises:
        ExceptionGroup: entries that cannot be read or written, after all others have been told.
    """
    storage, errors, started = Storage.from_environment(), [], time.monotonic()
    sources = {source.source: source for source in load_sources() if isinstance(source, Source)}
    for source, path in outbox.waiting(storage, list(sources)):
        if time.monotonic() - started > PASS_S:
            break
        try:
            tell_waiting(sources[source], storage, path)
        except Exception as error:
            log.exception("%s: an alert that waits cannot be sent", source)
            errors.append(error)
    if errors:
        raise ExceptionGroup("some alerts that wait cannot be sent", errors)
    return len(outbox.waiting(storage, list(sources)))
