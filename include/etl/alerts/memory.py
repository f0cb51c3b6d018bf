"""What has been told of a source and still holds: `data/alerts/<source>/open.json`, one process at a time."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping
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
NUMBERS = re.compile(r"(?<![A-Za-z_])\d[\dT:.,+-]*Z?")
"""Counts, moments and numbers of sessions, which differ from night to night; digits of a name are not among them."""


@dataclass
class Memory:
    """Conditions that are open: a condition and the DAG (or all of the source's) -> since when, how often.

    One that lasts has its causes beside that: a text without its numbers -> since when, how often, by which phase.
    """

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
            for cause in entry.get("causes", {}).values():
                cause["times"] = 0 if cause["times"] == 1 else cause["times"]

    def note_causes(self, condition: str, at: datetime, seen: Mapping[str, str], asked: Collection[str]) -> list[str]:
        """What the condition rests on from now on; those of its causes that nobody has been told of.

        `seen` are text and phase of what this run has found, `asked` the phases that came so far as to know: a cause
        that another phase has found lasts until that one does not find it any more.
        """
        open_causes = self.open.get(condition, {}).get("causes", {})
        found = {NUMBERS.sub("#", text): (text, phase) for text, phase in seen.items()}
        causes = {one: of for one, of in open_causes.items() if one in found or of["phase"] not in asked}
        for cause, (_, phase) in found.items():
            causes.setdefault(cause, {"since": at.isoformat(), "times": 0, "phase": phase})["times"] += 1
        if not causes:
            self.close(condition)
            return []
        self.note(condition, at)
        self.open[condition]["causes"] = causes
        return [text for cause, (text, _) in found.items() if causes[cause]["times"] == 1]

    def since_causes(self, condition: str, texts: Collection[str]) -> datetime:
        """Since when the first of these causes is open."""
        causes = self.open[condition]["causes"]
        return min(datetime.fromisoformat(causes[NUMBERS.sub("#", text)]["since"]) for text in texts)

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
