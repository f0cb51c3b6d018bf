"""What is wrong with a source's published folder, and what has to be read again because of it. Changes nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from include.etl.config import Source
from include.etl.errors import StorageError
from include.etl.handover import Window
from include.etl.publication import journal
from include.etl.records import manifest
from include.etl.records.manifest import Manifest, PublishedFile
from include.etl.storage import Storage, read_json, sha256

BEGINNING = datetime.min.replace(tzinfo=UTC)
DAY = timedelta(days=1)
_WINDOW = re.compile(r"(\d{8}T\d{6}(?:\.\d{6})?Z)_(\d{8}T\d{6}(?:\.\d{6})?Z)")
AGAIN = "read-again.json"
"""Below data/damaged/<source>: what has been set aside and is not read again yet."""


@dataclass(frozen=True)
class Span:
    """Cursor values `[start, end)` to read again."""

    start: datetime
    end: datetime

    @property
    def label(self) -> str:
        """As a person reads it."""
        return f"{self.start.isoformat()} up to {self.end.isoformat()}"


@dataclass
class Damage:
    """Names are relative to the source's published folder."""

    standing: list[Manifest] = field(default_factory=list)
    manifests: list[str] = field(default_factory=list)
    """Cannot be understood."""
    files: list[tuple[Manifest, PublishedFile]] = field(default_factory=list)
    """Listed, but gone or changed; with them the same partition in other formats."""
    strangers: list[str] = field(default_factory=list)
    """Not listed by any manifest: rows of a manifest that is gone."""
    journal: bool = False
    """A publication was stopped, and its list of what remains to be done cannot be understood."""

    @property
    def lines(self) -> list[str]:
        """As a person reads it; empty if all is well."""
        lines = [f"manifest {name} cannot be understood" for name in self.manifests]
        lines += [f"file {file.path} is gone or changed ({file.rows} rows)" for _, file in self.files]
        lines += [f"file {name} is listed in no manifest" for name in self.strangers]
        return lines + ["a stopped publication cannot be finished: its journal is damaged"] * self.journal


def find(storage: Storage, source: str) -> Damage:
    """Compare the folder with its manifests, every file by its content. The caller holds the source's lock."""
    folder, found = manifest.published_folder(storage, source), Damage()
    try:
        pending = journal.pending(storage.root / "staging" / source)
    except StorageError:
        pending, found.journal = None, True
    for path in sorted((folder / manifest.FOLDER).glob("[!.]*.json")):
        try:
            found.standing.append(manifest.read(path))
        except StorageError:
            found.manifests.append(path.relative_to(folder).as_posix())
    for one in found.standing if pending is None else ():
        spoilt = {file.partition for file in one.files if not _whole(folder, file)}
        found.files += [(one, file) for file in one.files if file.partition in spoilt]
    if pending is None:
        listed = {file.path for one in found.standing for file in one.files}
        found.strangers = [name for name in _data_files(folder) if name not in listed]
    return found


def _whole(folder: Path, file: PublishedFile) -> bool:
    path = folder / file.path
    try:
        return path.stat().st_size == file.bytes and sha256(path) == file.sha256
    except OSError:
        return False


def _data_files(folder: Path) -> list[str]:
    """Those that readers see: names with a dot in front are locks, what was being written, or a file manager's."""
    paths = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return [path.as_posix() for path in paths if path.parts[0] != manifest.FOLDER and path.name[0] != "."]


def lost_spans(source: Source, damage: Damage) -> list[Span] | None:
    """Cursor values of the rows in lost files, a day more on each side; None if they cannot be told.

    A day is more than any time zone's distance to UTC, in which a cursor without zone may be off here.
    """
    names = [named_span(name) for name in (*damage.manifests, *damage.strangers)]
    spans = [span for span in names if span is not None]
    if len(spans) < len(names):
        return None
    for _, file in damage.files:
        missing = file.cursor_missing and source.cursor is not None and source.cursor.nulls == "first_run"
        if file.cursor_min is None or file.cursor_max is None or missing:
            if file.rows and not (file.cursor_missing and not missing):
                return None
            continue
        try:
            low, high = datetime.fromisoformat(file.cursor_min), datetime.fromisoformat(file.cursor_max)
            spans.append(Span(low.replace(tzinfo=UTC) - DAY, high.replace(tzinfo=UTC) + DAY))
        except (ValueError, OverflowError):
            return None
    return spans


def named_span(path: str) -> Span | None:
    """The window in the name of a manifest or a data file; None if it has no beginning, or cannot be told."""
    found = _WINDOW.match(path.rpartition("/")[2])
    if not found:
        return None
    return Span(*(datetime.fromisoformat(text) for text in found.groups()))


def gaps(standing: Sequence[Manifest], bound: datetime) -> list[Span]:
    """Moments before `bound` that no standing publication covers, oldest first."""
    covered = [_covered(one.window) for one in standing]
    reached, found = BEGINNING, []
    for start, end in sorted(covered):
        if start > reached and reached < bound:
            found.append(Span(reached, min(start, bound)))
        reached = max(reached, end)
    return [*found, Span(reached, bound)] if reached < bound else found


def _covered(window: Window) -> tuple[datetime, datetime]:
    """What a publication covers; one by numbers covers no time."""
    if not isinstance(window.end, datetime):
        return BEGINNING, BEGINNING
    start = window.start if window.mode != "full" and isinstance(window.start, datetime) else BEGINNING
    return start, window.end


def to_read_again(storage: Storage, source: Source, damage: Damage, bound: Any) -> list[Span] | None:
    """What the damage, what stands, and earlier recoveries that did not end ask for; None for everything.

    What lies after the checkpoint's `bound` is read by the next incremental run anyway.
    """
    lost, earlier = lost_spans(source, damage), pending(storage, source.source)
    if source.cursor is None:
        healthy = damage.standing and not damage.lines and earlier == []
        return [] if healthy else None
    if lost is None or earlier is None or not isinstance(bound, datetime):
        return None
    nothing_left = emptied(damage)
    missing = gaps([one for one in damage.standing if one not in nothing_left], bound)
    found = merged([*lost, *earlier, *missing])
    if found and found[0].start <= BEGINNING:
        return None
    return [Span(one.start, min(one.end, bound)) for one in found if one.start < bound]


def emptied(damage: Damage) -> list[Manifest]:
    """The publications of which no file is left."""
    lost = Counter(one.window.name for one, _ in damage.files)
    return [one for one in damage.standing if one.files and lost[one.window.name] == len(one.files)]


def merged(spans: Sequence[Span]) -> list[Span]:
    """The same moments in as few spans as possible."""
    found: list[Span] = []
    for one in sorted(spans, key=lambda span: span.start):
        if found and one.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, one.end))
        else:
            found.append(one)
    return found


def pending(storage: Storage, source: str) -> list[Span] | None:
    """What an earlier recovery has set aside and not read again; None for everything, [] for nothing."""
    path = storage.root / "damaged" / source / AGAIN
    if not path.exists():
        return []
    try:
        spans = read_json(path)["spans"]
        return None if spans is None else [Span(*(datetime.fromisoformat(text) for text in one)) for one in spans]
    except (StorageError, KeyError, TypeError, ValueError):
        return None
