"""Runs that have ended and that nobody has been told of yet: `data/alerts/<source>/outbox/<time>-<run>.json`.

The DAG processor may end a callback at any moment, together with all that wait behind it, and a channel may be down for
a night. What is noted here is told later. An entry holds what a message may say: no row data and no secret.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel, ValidationError

from include.etl.alerts.base import Finding
from include.etl.alerts.conditions import Ended
from include.etl.errors import StorageError
from include.etl.lock import locked
from include.etl.storage import Storage, read_json, run_key, write_json

FOLDER = "outbox"
KEPT = timedelta(days=3)
"""A mail server that is down over a weekend is waited for; after that the run's own record must do."""


class Entry(BaseModel):
    """A run that has ended."""

    ended: Ended
    findings: list[Finding] | None = None
    """What is still to be told of it; None as long as nobody has looked."""


def put(storage: Storage, source: str, ended: Ended) -> Path:
    """Note that there may be something to tell of the run. Two ends of one run, which was cleared, are two entries."""
    name = f"{ended.at:%Y%m%dT%H%M%S%f}-{run_key(ended.dag_id, ended.run_id)}.json"
    path = storage.folder("alerts", source, FOLDER) / name
    save(path, Entry(ended=ended))
    return path


def save(path: Path, entry: Entry) -> None:
    """Write the entry, at once or not at all."""
    write_json(path, entry.model_dump(mode="json"))


def read(path: Path) -> Entry:
    """Read an entry; a StorageError that names it when it is damaged."""
    try:
        return Entry.model_validate(read_json(path))
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, one["loc"])) for one in error.errors()}))
        raise StorageError(f"file {path}: it does not hold the end of a run; wrong: {fields}. Delete it") from None


@contextmanager
def taken(path: Path, source: str) -> Iterator[bool]:
    """Only one process at a time tells what lies in the source's outbox; whether this entry is still there.

    Raises:
        TransientError: another process is at it.
    """
    with locked(path.with_name(".lock"), f"outbox of alerts of {source!r}", "an alert", wait_s=0):
        yield path.exists()


def waiting(storage: Storage, sources: Sequence[str]) -> list[tuple[str, Path]]:
    """Source and file of each entry, the one first that was noted, or last tried, longest ago."""
    found = []
    for source in sources:
        for path in (storage.root / "alerts" / source / FOLDER).glob("[0-9]*.json"):
            with suppress(FileNotFoundError):  # somebody was told at this very moment
                found.append((path.stat().st_mtime_ns, source, path))
    return [(source, path) for _, source, path in sorted(found)]
