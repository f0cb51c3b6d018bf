"""What has been told of a source and still holds: `data/alerts/<source>/open.json`, one process at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from include.etl.errors import ExtractionError, StorageError
from include.etl.lock import locked
from include.etl.storage import Storage, read_json, write_json

log = logging.getLogger("etl.alerts")
WAIT_S = 5.0
"""The DAG processor ends a callback that waits for long; what is told of a run is delivered without the lock."""


@dataclass
class Memory:
    """Conditions that are open: a condition and the DAG (or all of the source's) -> since when, how often."""

    open: dict[str, dict[str, Any]] = field(default_factory=dict)

    def note(self, condition: str, at: datetime, dag_id: str = "") -> int:
        """The condition holds (once more); how often it has held in a row."""
        entry = self.open.setdefault(_key(condition, dag_id), {"since": at.isoformat(), "times": 0})
        entry["times"] += 1
        return int(entry["times"])

    def tell_again(self, condition: str, dag_id: str = "") -> None:
        """Nobody has been told: the next time it is noted counts as the first, unless it has ended meanwhile."""
        if entry := self.open.get(_key(condition, dag_id)):
            entry["times"] = 0

    def since(self, condition: str, dag_id: str = "") -> datetime | None:
        """Since when it is open; None if it is not."""
        entry = self.open.get(_key(condition, dag_id))
        return datetime.fromisoformat(entry["since"]) if entry else None

    def close(self, condition: str, dag_id: str = "") -> datetime | None:
        """It holds no longer; since when it was open."""
        since = self.since(condition, dag_id)
        self.open.pop(_key(condition, dag_id), None)
        return since


def _key(condition: str, dag_id: str) -> str:
    return f"{condition} {dag_id}".strip()


@contextmanager
def remembered(storage: Storage, source: str) -> Iterator[Memory]:
    """The source's memory, saved at the end. Without it alerts still go out: they only cannot say since when."""
    with ExitStack() as stack:
        path = None
        try:
            folder = storage.folder("alerts", source)
            stack.enter_context(locked(folder / ".lock", f"alerts of {source!r}", "an alert", wait_s=WAIT_S))
            path = folder / "open.json"  # known to who holds the lock: nobody else may write it
            memory = Memory(read_json(path) if path.exists() else {})
        except ExtractionError as error:
            log.error("%s: what was told before is not known: %s", source, error)
            memory = Memory()
        yield memory
        try:
            if path:
                write_json(path, memory.open)
        except StorageError as error:
            log.error("%s: what has been told could not be noted: %s", source, error)
