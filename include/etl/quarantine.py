"""Rows that break critical expectations, set aside with the reasons beside them: one folder per run, for few eyes.

data/quarantine/<source>/<run key>/rows.parquet      folder 0700, file 0600
data/quarantine/<source>/<run key>/quarantine.json   counts and window, no value
data/quarantine/<source>/decisions.jsonl             who released or dropped what, and why
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from include.etl import duck
from include.etl.duck import parquet, quote, text
from include.etl.duplicates import NUMBER
from include.etl.errors import ConfigurationError, DataError, ValidationFailed
from include.etl.handover import Handover, Moment, Window
from include.etl.records.run import Run
from include.etl.records.set_aside import (
    NEXT,
    NOTHING,
    REASONS,
    RECORD,
    ROW,
    ROWS,
    folder_of,
    nothing,
    of_this_try,
    private,
)
from include.etl.storage import Storage, publish, read_json, remove_folder, seal, write_json
from include.etl.validation import Failure, Reference, Verdict
from include.etl.validation.failing_rows import condition, is_about_rows, prepare
from include.etl.validation.suites import BATCH, read_suite


class Quarantine(Handover):
    """What was set aside of one run."""

    source: str
    run_key: str
    dag_id: str
    run_id: str
    window: Window
    rows: int
    of: int
    reasons: dict[str, int]
    """Expectation and column -> rows that break it; a row may break several."""
    set_aside_at: Moment
    released_by: str | None = None
    """The run that has read them again."""


def set_aside(
    run: Run, window: Window, parts: Sequence[Path], suite: Path, verdict: Verdict, references: Sequence[Reference]
) -> Quarantine | None:
    """Write the rows that break critical expectations to the run's own folder, beside those of an earlier try.

    None where there are none, or where what failed is about the table as a whole.

    Raises:
        ValidationFailed: more rows than `validation.max_rejected`; none is kept.
    """
    folder = folder_of(run.storage, run.source.source, run.key)
    nothing(folder)
    wanted = run.source.validation.on_failure == "quarantine"
    if not wanted or not verdict.critical or not all(is_about_rows(one.expectation) for one in verdict.critical):
        return None
    private(folder)
    beside = folder / NEXT
    with duck.session(run.source.memory_limit_mb, beside / ".scratch") as connection:
        reasons = _find(run, connection, parts, suite, verdict.critical, references)
        rows = duck.count(connection, f"(SELECT DISTINCT {ROW} FROM found)")
        _check_limit(run, beside, rows, verdict, reasons)
        _write(connection, beside / ROWS)
    made = Quarantine(
        source=run.source.source,
        run_key=run.key,
        dag_id=run.dag_id,
        run_id=run.run_id,
        window=window,
        rows=rows,
        of=verdict.rows,
        reasons=reasons,
        set_aside_at=datetime.now(UTC),
    )
    record(beside, made)
    (beside / NOTHING).unlink(missing_ok=True)
    return made


def without(run: Run, connection: duckdb.DuckDBPyConnection, raw: list[Path], folder: Path) -> tuple[list[Path], int]:
    """The raw parts, each less the rows that validate has set aside of it; and how many those are.

    A part that loses rows is copied into the folder.
    """
    rows = of_this_try(folder_of(run.storage, run.source.source, run.key))
    if not rows.exists():
        return raw, 0
    aside = parquet([rows])
    touched = {number for (number,) in connection.sql(f"SELECT DISTINCT {ROW} >> 40 FROM {aside}").fetchall()}
    kept = list(raw)
    for number in sorted(touched & set(range(len(raw)))):
        kept[number] = folder / f".kept-{number}.parquet"
        numbered, first = parquet([raw[number]], numbered=True), number << 40
        connection.execute(
            f"COPY (SELECT * EXCLUDE (file_row_number) FROM {numbered} WHERE {first} + file_row_number NOT IN "
            f"(SELECT {ROW} FROM {aside}) ORDER BY file_row_number) "
            f"TO {text(str(kept[number]))} (FORMAT parquet, COMPRESSION zstd)"
        )
    left = duck.count(connection, parquet(kept)), duck.count(connection, aside)
    if sum(left) != duck.count(connection, parquet(raw)):
        raise DataError(
            f"source {run.source.source!r}: the rows that validate has set aside are not among those that were read; "
            "nothing was published. Clear the run from its validation on"
        )
    return kept, left[1]


def standing(storage: Storage, source: str) -> list[Quarantine]:
    """What is set aside of a source, oldest first."""
    found = [Quarantine(**read_json(path)) for path in (storage.root / "quarantine" / source).glob(f"*/{RECORD}")]
    return sorted(found, key=lambda one: one.set_aside_at)


def one_of(storage: Storage, source: str, run_key: str) -> Quarantine:
    """The quarantine of that run (its key or its id).

    Raises:
        ConfigurationError: there is none; with those that there are.
    """
    found = standing(storage, source)
    chosen = [one for one in found if run_key in (one.run_key, one.run_id)]
    if len(chosen) != 1:
        keys = ", ".join(one.run_key for one in found) or "nothing is set aside"
        raise ConfigurationError(f"source {source!r}: run {run_key!r}; allowed: {keys}")
    return chosen[0]


def rows_file(storage: Storage, one: Quarantine) -> Path:
    """The rows with their reasons."""
    return folder_of(storage, one.source, one.run_key) / ROWS


def record(folder: Path, one: Quarantine) -> None:
    """Note what is set aside, beside its rows."""
    write_json(folder / RECORD, one.model_dump(mode="json"))
    (folder / RECORD).chmod(0o600)


def _find(
    run: Run,
    connection: duckdb.DuckDBPyConnection,
    parts: Sequence[Path],
    suite: Path,
    failures: Sequence[Failure],
    references: Sequence[Reference],
) -> dict[str, int]:
    """Fill the table `found` with a line per row and reason; each must be as many as the validation has counted."""
    connection.execute(f"CREATE VIEW {BATCH} AS SELECT *, {NUMBER} AS {ROW} FROM {parquet(parts, numbered=True)}")
    for reference in references:
        connection.execute(f"CREATE VIEW {quote(reference.name)} AS SELECT * FROM {parquet(reference.parts)}")
    connection.execute(f"CREATE TABLE found ({ROW} BIGINT, reason VARCHAR)")
    entries = {entry.number: entry for entry in read_suite(suite).entries}
    reasons: dict[str, int] = {}
    for failure in failures:
        reason = f"{failure.expectation} on {failure.column}"
        prepare(connection, entries[failure.number])
        rows = f"SELECT {ROW}, {text(reason)} FROM {BATCH} WHERE {condition(entries[failure.number])}"
        (added,) = connection.execute(f"INSERT INTO found {rows}").fetchone() or (0,)
        if added != failure.unexpected_count:
            raise DataError(
                f"source {run.source.source!r}: {reason}: {failure.unexpected_count} rows break it, {added} were found "
                "to set aside; nothing was published. Use validation.on_failure: stop"
            )
        reasons[reason] = reasons.get(reason, 0) + int(added)
    return reasons


def _check_limit(run: Run, folder: Path, rows: int, verdict: Verdict, reasons: dict[str, int]) -> None:
    most = run.source.validation.max_rejected
    if rows <= round(verdict.rows * most, 6):  # 29 % of 100 are 28.999999999999996
        return
    remove_folder(folder)
    listed = "; ".join(f"{reason}: {count}" for reason, count in reasons.items())
    raise ValidationFailed(
        f"source {run.source.source!r}: {rows} of {verdict.rows} rows break critical expectations, more than "
        f"validation.max_rejected = {100 * most:g}% allows; nothing was published: {listed}"
    )


def _write(connection: duckdb.DuckDBPyConnection, final: Path) -> None:
    staged = final.with_name(f".{final.name}.tmp")
    reasons = f"(SELECT {ROW}, list(DISTINCT reason ORDER BY reason) AS {REASONS} FROM found GROUP BY {ROW})"
    connection.execute(
        f"COPY (SELECT {BATCH}.* EXCLUDE (file_row_number), {REASONS} FROM {BATCH} JOIN {reasons} USING ({ROW}) "
        f"ORDER BY {ROW}) TO {text(str(staged))} (FORMAT parquet, COMPRESSION zstd)"
    )
    seal(staged)
    staged.chmod(0o600)
    publish(staged, final)
