"""What has to be read again because of damage: cursor values, moments or numbers, as few as can be told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from include.etl.config import Source
from include.etl.errors import StorageError
from include.etl.handover import Position, written
from include.etl.publication.files import cursor_number
from include.etl.records import covers
from include.etl.records.covers import rank
from include.etl.records.manifest import Covered, Manifest, PublishedFile
from include.etl.recovery.damage import Damage
from include.etl.storage import Storage, read_json

DAY = timedelta(days=1)
_MOMENT = r"\d{8}T\d{6}(?:\.\d{6})?Z"
_WINDOW = re.compile(rf"(begin|full|{_MOMENT}|-?\d+)_({_MOMENT}|-?\d+)(?=[.-])")
AGAIN = "read-again.json"
"""Below data/damaged/<source>: what has been set aside and is not read again yet."""


@dataclass(frozen=True)
class Span:
    """Cursor values `[start, end)` to read again; no start: from the very first row, those without a value too."""

    start: Position | None
    end: Position

    @property
    def label(self) -> str:
        """As a person reads it."""
        return f"{'the beginning' if self.start is None else written(self.start)} up to {written(self.end)}"


def by_windows(source: Source) -> bool:
    """Whether parts of the source can be read: one that is only ever read in full need not know of windows."""
    return source.cursor is not None and source.schedule.incremental is not None


def to_read_again(storage: Storage, source: Source, damage: Damage, bound: Any) -> list[Span] | None:
    """What the damage, what stands, and earlier recoveries that did not end ask for; None for everything.

    What lies after the checkpoint's `bound` is read by the next incremental run anyway.
    """
    earlier = pending(storage, source.source)
    if not by_windows(source):
        healthy = damage.standing and not damage.lines and earlier == []
        return [] if healthy else None
    lost = lost_spans(source, damage)
    if lost is None or earlier is None or bound is None:
        return None
    if any(isinstance(one.end, int) != isinstance(bound, int) for one in (*lost, *earlier)):
        return None  # the cursor was of another kind then
    nothing_left = emptied(damage)
    known = [piece for one in damage.standing for piece in (one.covers if one in nothing_left else covers.by(one))]
    found = merged([*lost, *earlier, *gaps(known, bound)])
    return [Span(one.start, min(one.end, bound)) for one in found if rank(one.start) < rank(bound)]


def lost_spans(source: Source, damage: Damage) -> list[Span] | None:
    """Cursor values of the rows in lost files; None if they cannot be told."""
    names = [named_span(name) for name in (*damage.manifests, *damage.strangers)]
    files = [_of_file(source, one, file) for one, file in damage.files if file.rows]
    spans = [span for span in (*names, *files) if span is not None]
    return spans if len(spans) == len(names) + len(files) else None


def named_span(path: str) -> Span | None:
    """The window in the name of a manifest or a data file; None if it cannot be told."""
    found = _WINDOW.match(path.rpartition("/")[2])
    if not found:
        return None
    start, end = (None if text in ("begin", "full") else _position(text) for text in found.groups())
    return None if end is None else Span(start, end)


def _position(text: str) -> Position:
    return datetime.fromisoformat(text) if text.endswith("Z") else int(text)


def _of_file(source: Source, one: Manifest, file: PublishedFile) -> Span | None:
    """Around its rows' cursor values; those without a value are read from the beginning on, or by every run.

    A day more on each side is more than any time zone's distance to UTC, in which a cursor without zone may be off.
    """
    if file.cursor_missing and source.cursor is not None and source.cursor.nulls == "first_run":
        return Span(None, one.window.end)
    if file.cursor_min is None or file.cursor_max is None:
        return Span(one.window.end, one.window.end) if file.cursor_missing else None
    try:
        if isinstance(one.window.end, int):
            return Span(cursor_number(file.cursor_min), cursor_number(file.cursor_max) + 1)
        low, high = datetime.fromisoformat(file.cursor_min), datetime.fromisoformat(file.cursor_max)
        return Span(low.replace(tzinfo=UTC) - DAY, high.replace(tzinfo=UTC) + DAY)
    except (ValueError, OverflowError):
        return None


def gaps(covered: Sequence[Covered], bound: Position) -> list[Span]:
    """Cursor values before `bound` that were not covered, first ones first; those of another kind cover nothing."""
    reached: Position | None = None
    found: list[Span] = []
    for one in covers.joined(one for one in covered if isinstance(one.end, int) == isinstance(bound, int)):
        if rank(one.start) > rank(reached) and rank(reached) < rank(bound):
            assert one.start is not None
            found.append(Span(reached, min(one.start, bound, key=rank)))
        reached = one.end  # the pieces are in order, and do not overlap
    return [*found, Span(reached, bound)] if rank(reached) < rank(bound) else found


def reached(standing: Sequence[Manifest]) -> Position | None:
    """Up to where publications cover everything; None where none begins at the beginning."""
    pieces = covers.joined(one for manifest in standing for one in covers.by(manifest))
    return next((one.end for one in pieces if one.start is None), None)


def emptied(damage: Damage) -> list[Manifest]:
    """The publications of which no file is left."""
    lost = Counter(one.window.name for one, _ in damage.files)
    return [one for one in damage.standing if one.files and lost[one.window.name] == len(one.files)]


def merged(spans: Sequence[Span]) -> list[Span]:
    """The same in as few spans as possible; those without a value in them go."""
    wanted = (Covered(start=one.start, end=one.end) for one in spans if rank(one.start) < rank(one.end))
    return [Span(one.start, one.end) for one in covers.joined(wanted)]


def pending(storage: Storage, source: str) -> list[Span] | None:
    """What an earlier recovery has set aside and not read again; None for everything, [] for nothing."""
    path = storage.root / "damaged" / source / AGAIN
    if not path.exists():
        return []
    try:
        spans = read_json(path)["spans"]
        return None if spans is None else [Span(_kept(start), _kept(end)) for start, end in spans]  # type: ignore[arg-type]
    except (StorageError, KeyError, TypeError, ValueError):
        return None


def _kept(value: Any) -> Position | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None if value is None else int(value)
