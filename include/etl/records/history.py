"""What every run and phase did and cost, for years: a line of JSON each in `data/history/<source>.jsonl`.

The folders of single runs go after a while; this stays. A line holds numbers and names, no rows and no messages. All
lines have the same keys, so that DuckDB and pandas read them as a table.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from include.etl.errors import ExtractionError, StorageError
from include.etl.lock import locked
from include.etl.storage import FILE_MODE, Storage

if TYPE_CHECKING:
    from include.etl.records.run import Run

log = logging.getLogger("etl.history")
Line = Mapping[str, Any]
Status = Literal["published", "nothing to read yet", "failed", "interrupted", "running"]
GOOD: tuple[Status, ...] = ("published", "nothing to read yet")
WAIT_S = 30.0


def append(run: Run, record: Line, part: str) -> None:
    """Add what a phase (or a slice of it) did. A history that cannot be written is told, and stops no run."""
    try:
        _append(run.storage, run.source.source, _line(run, record, part))
    except ExtractionError as error:
        log.error("%s: no line in its history: %s", run.source.source, error)


def _line(run: Run, record: Line, part: str) -> dict[str, Any]:
    started = datetime.fromisoformat(record["started_at"])
    window = record.get("window") or {}
    verdict = "failed" if record["error"] == "ValidationFailed" else record.get("verdict")
    return {
        "source": run.source.source,
        "dag_id": run.dag_id,
        "run_id": run.run_id,
        "run_key": run.key,
        "phase": record["phase"],
        "slice": int(part.removeprefix("-")) if part else None,
        "outcome": "failed" if record["error"] else "done",
        "error": record["error"],
        "started_at": started.isoformat(timespec="milliseconds"),
        "ended_at": (started + timedelta(seconds=record["seconds"])).isoformat(timespec="milliseconds"),
        "seconds": record["seconds"],
        "cpu_seconds": record["cpu_seconds"],
        "peak_memory_mb": record["peak_memory_mb"],
        "rows": record["rows"],
        "bytes": record["bytes"],
        "rows_per_second": record["rows_per_second"],
        "mode": window.get("mode"),
        "window_start": window.get("start"),
        "window_end": window.get("end"),
        "slices": record.get("slices"),
        "verdict": verdict,
        "expectations": record.get("expectations"),
        "expectations_failed": _count(record.get("failed_expectations")),
        "rejects": record.get("quarantined"),
        "removed": None if record.get("removed") is None else sum(record["removed"].values()),
        "manifest": record.get("manifest"),
    }


def _count(found: Sequence[str] | None) -> int | None:
    return None if found is None else len(found)


def _append(storage: Storage, source: str, line: Line) -> None:
    folder = storage.folder("history")
    path = folder / f"{source}.jsonl"
    with locked(folder / f".{source}.lock", f"the history of source {source!r}", f"{line['run_id']}", wait_s=WAIT_S):
        try:
            with path.open("ab+") as file:
                _cut_half_a_line(file.fileno())
                os.fchmod(file.fileno(), FILE_MODE)
                file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"file {path}: {error.strerror}") from error


def _cut_half_a_line(file: int) -> None:
    """Remove what a process that was killed, or a disk that was full, left of its line."""
    size = end = os.fstat(file).st_size
    while end and os.pread(file, 1, end - 1) != b"\n":
        end -= 1
    if end < size:
        os.ftruncate(file, end)


def sources(storage: Storage) -> list[str]:
    """Names of the sources that have a history."""
    return sorted(path.stem for path in storage.folder("history").glob("*.jsonl"))


def read(storage: Storage, source: str) -> list[dict[str, Any]]:
    """The lines of a source, oldest first; without the half line that may be being written.

    Raises:
        StorageError: the file cannot be read, or a line of it is damaged.
    """
    path = storage.folder("history") / f"{source}.jsonl"
    try:
        whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error
    return [_parsed(path, number, text) for number, text in enumerate(whole, 1)]


def _parsed(path: Path, number: int, text: bytes) -> dict[str, Any]:
    try:
        line: dict[str, Any] = json.loads(text)
    except ValueError:
        raise StorageError(f"file {path}: line {number} is damaged; remove that line, the others are good") from None
    return line


@dataclass(frozen=True)
class RunSummary:
    """One run, from the lines of its last try from the beginning."""

    source: str
    dag_id: str
    run_id: str
    status: Status
    error: str | None
    mode: str | None
    started_at: str
    seconds: float
    """From the begin of its first phase to the end of its last one, pauses between tasks included."""
    rows: int
    """Rows published; of a run that published nothing, rows read."""
    bytes: int
    rejects: int
    removed: int
    verdict: str | None
    peak_memory_mb: float
    cpu_seconds: float


def runs(lines: Iterable[Line]) -> list[RunSummary]:
    """The runs that these lines tell of, oldest first. The newest of a DAG may still be at work."""
    found = by_run(lines)
    newest = {dag_id: run_id for dag_id, run_id in found}
    summed = [_summary(mine, newest[dag_id] == run_id) for (dag_id, run_id), mine in found.items()]
    return sorted(summed, key=lambda run: run.started_at)


def by_run(lines: Iterable[Line]) -> dict[tuple[str, str], list[Line]]:
    """DAG and run -> the lines of its last try from the beginning."""
    found: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        key = (line["dag_id"], line["run_id"])
        if line["phase"] == "plan":  # the run's first try, or it was cleared
            found.pop(key, None)
        found.setdefault(key, []).append(line)
    return found


def last_tries(lines: Sequence[Line]) -> list[Line]:
    """Of each phase and slice of a run, the last try."""
    return list({(line["phase"], line["slice"]): line for line in lines}.values())


def _summary(lines: Sequence[Line], newest: bool) -> RunSummary:
    last = last_tries(lines)
    status = _status(last, newest)
    counted = "load" if any(line["phase"] == "load" for line in last) else "extract"
    begin = min(datetime.fromisoformat(line["started_at"]) for line in lines)
    end = max(datetime.fromisoformat(line["ended_at"]) for line in lines)
    return RunSummary(
        source=last[0]["source"],
        dag_id=last[0]["dag_id"],
        run_id=last[0]["run_id"],
        status=status,
        error=next((line["error"] for line in reversed(last) if line["error"]), None),
        mode=next(_known(last, "mode"), None),
        started_at=begin.isoformat(timespec="seconds"),
        seconds=round((end - begin).total_seconds(), 3),
        rows=sum(line["rows"] for line in last if line["phase"] == counted),
        bytes=sum(line["bytes"] for line in last if line["phase"] == counted),
        rejects=sum(_known(last, "rejects")),
        removed=sum(_known(last, "removed")),
        verdict=next(_known(last, "verdict"), None),
        peak_memory_mb=max(line["peak_memory_mb"] for line in last),
        cpu_seconds=round(sum(line["cpu_seconds"] for line in last), 3),
    )


def _known(lines: Iterable[Line], key: str) -> Iterator[Any]:
    return (line[key] for line in lines if line.get(key) is not None)


def _status(last: Sequence[Line], newest: bool) -> Status:
    if any(line["outcome"] == "failed" for line in last):
        return "failed"
    if any(line["phase"] == "load" for line in last):
        return "published"
    if any(line["phase"] == "plan" and line["slices"] == 0 for line in last):
        return "nothing to read yet"
    return "running" if newest else "interrupted"


def success_rate(found: Sequence[RunSummary]) -> float | None:
    """Share of the runs that have ended, and ended well; None where none has ended."""
    ended = [run for run in found if run.status != "running"]
    return sum(run.status in GOOD for run in ended) / len(ended) if ended else None
