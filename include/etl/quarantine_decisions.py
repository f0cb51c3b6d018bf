"""What a person decides about rows set aside: to release them, which reads them again, or to drop them for good."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime, timedelta
from typing import Any

from include.etl import duck
from include.etl.config import Source
from include.etl.duck import parquet, quote
from include.etl.errors import ConfigurationError, StorageError
from include.etl.handover import Position
from include.etl.maintenance.policy import load_policy
from include.etl.quarantine import Quarantine, record, rows_file, standing
from include.etl.records import audit
from include.etl.records.run import Run
from include.etl.records.set_aside import DECISIONS, folder_of
from include.etl.storage import Storage, plain_name, read_json, remove_folder

log = logging.getLogger("etl.quarantine")
DAY = timedelta(days=1)


def span(storage: Storage, source: Source, one: Quarantine) -> tuple[Position, Position] | None:
    """The part of the run's window to read again: around the rows' cursor values; None for everything."""
    if source.cursor is None or one.window.mode == "full":
        return None
    column, rows = quote(source.cursor.column), parquet([rows_file(storage, one)])
    with duck.session(source.memory_limit_mb, rows_file(storage, one).parent / ".scratch") as connection:
        kind = "HUGEINT" if source.cursor.numbered else "TIMESTAMP"
        limits = (
            f"min({column})::{kind}, max({column})::{kind}, count(*) - count({column}), any_value(typeof({column}))"
        )
        ((low, high, missing, type_),) = connection.sql(f"SELECT {limits} FROM {rows}").fetchall()
    if missing:
        return None
    if isinstance(low, int):
        return low, high + 1
    # A day is more than any time zone's distance to UTC, in which a cursor without zone may be off here; a date is
    # read once its day has ended.
    start, end = low.replace(tzinfo=UTC) - DAY, high.replace(tzinfo=UTC) + (2 if type_ == "DATE" else 1) * DAY
    return max(start, one.window.read_from or start), min(end, one.window.end)


def mark_released(run: Run, run_key: str, by: str, reason: str) -> None:
    """Note that a run has published those rows, or has set them aside anew; the copy stays until it is dropped."""
    one = next((one for one in standing(run.storage, run.source.source) if one.run_key == run_key), None)
    if one is None:
        log.warning("%s: the rows set aside were dropped while they were read again", run_key)
        return
    record(rows_file(run.storage, one).parent, one.model_copy(update={"released_by": run.run_id}))
    _decided(run.storage, one, "release", by, reason)


def drop(storage: Storage, one: Quarantine, by: str, reason: str) -> None:
    """Delete the rows for good, and say so in the record of decisions first.

    Raises:
        ConfigurationError: the source is held; or the run has not published the others yet, and its next try needs
            to know which to leave out.
    """
    if one.source in load_policy().hold:
        raise ConfigurationError(f"source {one.source!r} is held (maintenance.yaml: hold); nothing of it is deleted")
    summary = storage.root / "runs" / one.source / one.run_key / "summary.json"
    if summary.exists() and read_json(summary)["status"] != "published":
        raise ConfigurationError(
            f"source {one.source!r}: run {one.run_id} has not published the other rows; clear it first, then drop"
        )
    _decided(storage, one, "drop", by, reason)
    remove_folder(folder_of(storage, one.source, one.run_key))


def _decided(storage: Storage, one: Quarantine, decision: str, by: str, reason: str) -> None:
    """Add a line to the audit and to the source's record of decisions."""
    facts = {"run_key": one.run_key, "run_id": one.run_id, "rows": one.rows}
    audit.record(storage, f"quarantine {decision}", one.source, reason, who=by, **facts)
    line: dict[str, Any] = {"at": datetime.now(UTC).isoformat(), "decision": decision, "by": by, "reason": reason}
    line |= facts
    path = storage.root / "quarantine" / plain_name(one.source) / DECISIONS
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error
